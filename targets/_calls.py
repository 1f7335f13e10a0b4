"""Calls of operators that follow each other as one: what lies between them costs more than a small operator."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from operators.calls import By, line_of, run_each

aten = torch.ops.aten
CPU = torch._C.DispatchKey.CPU


def in_one_call(graph: fx.GraphModule) -> int:
    """y = a(x); z = b(y, ...) → z = Calls(a, b)(x, ...), for calls of opswap's operators, and of modules that call
    nothing else, with nothing in between that reads their results. → how many operators"""
    done = 0
    for run in reversed(_runs(graph)):  # each is given what those before it make, as their own nodes
        outputs = [node for node in run.nodes if not set(node.users) <= set(run.nodes)]
        made = {result for _, _, results in run.lines for result in _flat([_plain(one) for one in results])}
        if len(run.lines) > 1 and all(run.values[node] in made for node in outputs):
            _replace(graph, run, outputs)
            done += len(run.lines)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return done


class Calls(nn.Module):
    """inputs, sizes → what `text` says, opswap::calls; constants: what the modules hold that it stands for, which stay
    in the graph under their names, but are not called"""

    def __init__(self, text: str, constants: list[Tensor]) -> None:
        super().__init__()
        self.text = text
        for number, constant in enumerate(constants):
            self.register_buffer(f"constant{number}", constant)

    def forward(self, inputs: list[Tensor], sizes: list[int]) -> list[Tensor]:
        if torch.compiler.is_compiling():  # to a graph that is traced each operator says more than all of them as one
            return self.each(inputs, sizes, lambda _, call: call())
        return torch.ops.opswap.calls(inputs, sizes, self.constants, self.text)

    def each(self, inputs: list[Tensor], sizes: list[int], by: By) -> list[Tensor]:
        """forward, operator by operator, each through by(its name, what calls it), which returns what that does"""
        return run_each(inputs, sizes, self.constants, self.text, by)

    @property
    def constants(self) -> list[Tensor]:
        return list(self._buffers.values())  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(line.partition(" ")[0] for line in self.text.splitlines()[1:-1] if not line.startswith("drop"))


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
        if node.target is aten.sym_size.int:
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
        if (
            not isinstance(one, torch._ops.OpOverload)
            or one.namespace != "opswap"
            or not one.has_kernel_for_dispatch_key(CPU)
        ):
            raise Unfit(str(function))
        schema = one._schema
        given = [
            args[number] if number < len(args) else kwargs.get(argument.name, argument.default_value)
            for number, argument in enumerate(schema.arguments)
        ]
        given = [self._held(value) for value in given]
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


def _runs(graph: fx.GraphModule) -> list[Run]:
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


def _replace(graph: fx.GraphModule, run: Run, outputs: list[fx.Node]) -> None:
    used = set(_flat([given for _, given, _ in run.lines]))
    inputs = [value for value in run.inputs if value in used]
    constants = [value for value in run.constants if value in used]
    text = _text(run, [*inputs, *constants], [run.values[node] for node in outputs])
    name = next(name for name in map("calls_{}".format, range(len(graph.graph.nodes))) if not hasattr(graph, name))
    graph.add_submodule(name, Calls(text, [run.constants[value] for value in constants]).eval())
    with graph.graph.inserting_after(run.nodes[-1]):
        call = graph.graph.call_module(name, ([run.inputs[value] for value in inputs], run.sizes))
    for number, node in reversed(list(enumerate(outputs))):
        with graph.graph.inserting_after(call):
            part = graph.graph.call_function(operator.getitem, (call, number))
        part.meta.update(node.meta)
        node.replace_all_uses_with(part)
    for node in reversed(run.nodes):
        graph.graph.erase_node(node)


def _text(run: Run, first: list[Value], outputs: list[Value]) -> str:
    """first: the values that are given; outputs: those that are given back → what opswap::calls does"""
    results = [[*_flat([_plain(one) for one in made])] for _, _, made in run.lines]
    number = {value: index for index, value in enumerate([*first, *_flat(results)])}
    reads = [{one for one in _flat(given) if isinstance(one, Value)} for _, given, _ in run.lines]
    last = {value: line for line, values in enumerate(zip(reads, results, strict=True)) for value in _flat(values)}
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
