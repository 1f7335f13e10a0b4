"""Runs of operator calls, noted down: each module is asked what it calls, with values that stand for tensors."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from operators.calls import line_of

aten = torch.ops.aten
CPU = torch._C.DispatchKey.CPU
TENSORS = ("Tensor", "Optional[Tensor]", "List[Tensor]")


class Unfit(Exception):
    """What was to be noted down is more than calls of opswap's operators."""


class Value:
    """Stands for a tensor while a run is noted down: opswap's operators take it, and nothing else is known of it."""

    def __init__(self, run: "Run") -> None:
        self.run = run

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = next(value for value in _flat([args, list((kwargs or {}).values())]) if isinstance(value, Value))
        return first.run.note(function, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        raise Unfit(name)

    def __iter__(self) -> Any:
        raise Unfit("a tuple of unknown length")


class Run:
    """Calls that follow each other, as they are noted down.

    values: of each node, inside and outside, a Value or a tuple of such, or "$0" for a size; lines: operator, arguments
    and results, with Values; constants: those of tensors.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.nodes: list[fx.Node] = []
        self.values: dict[fx.Node, Any] = {}
        self.inputs: dict[Value, fx.Node] = {}
        self.sizes: list[fx.Node] = []
        self.constants: dict[Value, Tensor] = {}
        self.lines: list[tuple[Any, list[Any], list[Any]]] = []

    @property
    def results(self) -> list[list[Value]]:
        """→ of each line, those of its operator's results that are tensors by themselves, or read of a list"""
        return [_flat([_plain(one) for one in made]) for _, _, made in self.lines]

    @property
    def read(self) -> set[Value]:
        """→ what the lines take"""
        return {value for _, given, _ in self.lines for value in _flat(given) if isinstance(value, Value)}

    def add(self, node: fx.Node) -> bool:
        """Notes `node` down. → whether it could be"""
        kept = len(self.lines)
        try:
            self.values[node] = self._call(node)
        except Unfit:
            del self.lines[kept:]
            return False
        self.nodes.append(node)
        return True

    def _call(self, node: fx.Node) -> Any:
        args: Any = fx.node.map_arg(node.args, self._value)
        kwargs: Any = fx.node.map_arg(node.kwargs, self._value)
        if node.target is operator.getitem:
            return args[0][args[1]]
        if node.op == "call_module":
            return self.graph.get_submodule(str(node.target))(*args, **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _value(self, node: fx.Node) -> Any:
        """→ what stands for a node, inside or outside of the run"""
        if node in self.values:
            return self.values[node]
        if node.target is aten.sym_size.int or isinstance(node.meta.get("val"), int | torch.SymInt):
            self.sizes.append(node)
            self.values[node] = f"${len(self.sizes) - 1}"
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
            stand = [isinstance(each, Value) for each in _flat([value]) if each is not None]
            if stand and any(stand) != (str(argument.type) in TENSORS):
                raise Unfit(f"{argument.name} of {schema.name}")
        lists = [str(result.type) == "List[Tensor]" for result in schema.returns]
        results: list[Any] = [Several(self) if several else Value(self) for several in lists]
        self.lines.append((one, given, results))
        return results[0] if len(results) == 1 else tuple(results)

    def _held(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._held(one) for one in value]
        return self._constant(value) if isinstance(value, Tensor) else value


class Several:
    """Stands for an operator's result that is a list, as long as what is read of it."""

    def __init__(self, run: Run) -> None:
        self.run, self.values = run, list[Value]()

    def __getitem__(self, index: int) -> Value:
        while len(self.values) <= index:
            self.values.append(Value(self.run))
        return self.values[index]


def runs_of(graph: fx.GraphModule) -> list[Run]:
    """→ the longest runs, in the graph's order"""
    runs = [Run(graph)]
    for node in graph.graph.nodes:
        run = runs[-1]
        if _may_call(graph, node, run) and run.add(node):
            continue
        if set(node.all_input_nodes) & set(run.nodes):  # it must come between what is before it and what follows
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
    number = {value: index for index, value in enumerate([*first, *_flat(run.results)])}
    reads = [{one for one in _flat(given) if isinstance(one, Value)} for _, given, _ in run.lines]
    last = {value: line for line, values in enumerate(zip(reads, run.results, strict=True)) for value in _flat(values)}
    lines = [str(len(number))]
    for index, (one, given, made) in enumerate(run.lines):
        lines.append(line_of(one, _numbered(given, number), _numbered([_plain(each) for each in made], number)))
        done = [value for value in last if last[value] == index and value not in first and value not in outputs]
        lines += [" ".join(["drop", *(str(number[value]) for value in done)])] * bool(done)
    return "\n".join([*lines, f"return [{','.join(str(number[value]) for value in outputs)}]"])


def _plain(made: Value | Several) -> Any:
    return made.values if isinstance(made, Several) else made


def _numbered(values: Any, number: dict[Value, int]) -> Any:
    if isinstance(values, list):
        return [_numbered(value, number) for value in values]
    return number[values] if isinstance(values, Value) else values


def _flat(values: Any) -> list[Any]:
    return [one for value in values for one in _flat(value)] if isinstance(values, list | tuple | set) else [values]
