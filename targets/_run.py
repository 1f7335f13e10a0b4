"""Runs of operator calls, noted down: each module is asked what it calls, with values that stand for tensors."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from operators.calls import line_of
from targets._memory import written_by
from targets._placeholders import Several, Size, Unfit, Value, flat

aten = torch.ops.aten
CPU = torch._C.DispatchKey.CPU
TENSORS = ("Tensor", "Optional[Tensor]", "List[Tensor]")


class Run:
    """Calls that follow each other, as they are noted down.

    values: of each node, inside and outside, a Value, a tuple of such, Several, or a Size; lines: operator, arguments
    and results, with Values; inputs, sizes, constants: the nodes and tensors that Values and Sizes stand for.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.nodes: list[fx.Node] = []
        self.values: dict[fx.Node, Any] = {}
        self.inputs: dict[Value, fx.Node] = {}
        self.sizes: dict[Size, fx.Node] = {}
        self.constants: dict[Value, Tensor] = {}
        self.lines: list[tuple[Any, list[Any], list[Any]]] = []

    @property
    def results(self) -> list[list[Value]]:
        """→ of each line, those of its operator's results that are tensors by themselves, or read of a list"""
        return [flat([_plain(one) for one in made]) for _, _, made in self.lines]

    @property
    def reads(self) -> list[set[Value]]:
        """→ what each line takes"""
        return [{value for value in flat(given) if isinstance(value, Value)} for _, given, _ in self.lines]

    def add(self, node: fx.Node) -> bool:
        """Notes `node` down. → whether it could be"""
        kept = len(self.lines), dict(self.values), dict(self.inputs), dict(self.sizes), dict(self.constants)
        try:
            self.values[node] = self._call(node)
        except Unfit:
            del self.lines[kept[0] :]
            _, self.values, self.inputs, self.sizes, self.constants = kept
            return False
        self.nodes.append(node)
        return True

    def _call(self, node: fx.Node) -> Any:
        args: Any = fx.node.map_arg(node.args, self._value)
        kwargs: Any = fx.node.map_arg(node.kwargs, self._value)
        if node.target is operator.getitem:
            if not isinstance(args[1], int):
                raise Unfit("a part that is no number")
            return args[0][args[1]]
        if node.op == "call_module":
            return self.graph.get_submodule(str(node.target))(*args, **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _value(self, node: fx.Node) -> Any:
        """→ what stands for a node, inside or outside of the run"""
        if node in self.values:
            return self.values[node]
        if node.target is aten.sym_size.int or isinstance(node.meta.get("val"), int | torch.SymInt):
            self.values[node] = Size(len(self.sizes))
            self.sizes[self.values[node]] = node
        elif node.op == "get_attr":
            owner, _, leaf = str(node.target).rpartition(".")
            self.values[node] = self._constant(getattr(self.graph.get_submodule(owner), leaf))
        else:
            self.values[node] = Value(self)
            self.inputs[self.values[node]] = node
        return self.values[node]

    def _constant(self, tensor: Tensor) -> Value:
        found = next((value for value, held in self.constants.items() if held is tensor), None)
        if found is None:
            found = Value(self)
            self.constants[found] = tensor
        return found

    def note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Notes one call of an operator down. → what stands for its results"""
        one = function.default if isinstance(function, torch._ops.OpOverloadPacket) else function
        ours = isinstance(one, torch._ops.OpOverload) and one.namespace == "opswap"
        if not ours or not one.has_kernel_for_dispatch_key(CPU) or one._schema.is_mutable:
            raise Unfit(str(function))
        schema = one._schema
        given = [
            args[number] if number < len(args) else kwargs.get(argument.name, argument.default_value)
            for number, argument in enumerate(schema.arguments)
        ]
        given = [self._held(value) for value in given]
        for argument, value in zip(schema.arguments, given, strict=True):
            _require(str(argument.type), value)
        lists = [str(result.type) == "List[Tensor]" for result in schema.returns]
        results: list[Any] = [Several(self) if several else Value(self) for several in lists]
        self.lines.append((one, given, results))
        return results[0] if len(results) == 1 else tuple(results)

    def _held(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._held(one) for one in value]
        return self._constant(value) if isinstance(value, Tensor) else value


def _require(kind: str, value: Any) -> None:
    """Raises Unfit unless tensors, and they alone, stand where `kind` wants them, and sizes where it wants a number."""
    parts = [one for one in flat([value]) if one is not None]
    tensors = [isinstance(one, Value) for one in parts]
    if parts and (any(tensors) if kind not in TENSORS else not all(tensors)):
        raise Unfit(kind)
    if kind != "int" and any(isinstance(one, Size) for one in parts):
        raise Unfit(kind)


def runs_of(graph: fx.GraphModule) -> list[Run]:
    """→ the longest runs, in the graph's order"""
    runs = [Run(graph)]
    for node in graph.graph.nodes:
        run = runs[-1]
        if _may_call(graph, node, run) and run.add(node):
            continue
        # it must come between what is before it and what follows
        if written_by(node) or set(node.all_input_nodes) & set(run.nodes):
            runs.append(Run(graph))
            if _may_call(graph, node, runs[-1]):
                runs[-1].add(node)
    return runs


def _may_call(graph: fx.GraphModule, node: fx.Node, run: Run) -> bool:
    if node.target is operator.getitem:
        return node.args[0] in run.nodes
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))).__module__.startswith("targets.")
    return isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "opswap"


def text_of(run: Run, first: list[Value], outputs: list[Value]) -> str:
    """first: the values that are given; outputs: those that are given back → what opswap::calls does"""
    number = {value: index for index, value in enumerate([*first, *flat(run.results)])}
    lived = enumerate(zip(run.reads, run.results, strict=True))
    last = {value: line for line, values in lived for value in flat(values)}
    held = {*first, *outputs}
    lines = [str(len(number))]
    for index, (one, given, made) in enumerate(run.lines):
        lines.append(line_of(one, _numbered(given, number), _numbered([_plain(each) for each in made], number)))
        done = [value for value in last if last[value] == index and value not in held]
        lines += [" ".join(["drop", *(str(number[value]) for value in done)])] * bool(done)
    return "\n".join([*lines, f"return [{','.join(str(number[value]) for value in outputs)}]"])


def _plain(made: Value | Several) -> Any:
    return made.values if isinstance(made, Several) else made


def _numbered(values: Any, number: dict[Value, int]) -> Any:
    if isinstance(values, list):
        return [_numbered(value, number) for value in values]
    return number[values] if isinstance(values, Value) else values
