"""Calls of operators that follow each other as one: what lies between them costs more than a small operator."""

import operator

import torch
from torch import Tensor, fx, nn

from operators.calls import By, run_each, steps_of
from targets._placeholders import Value
from targets._run import Run, runs_of, text_of


def in_one_call(graph: fx.GraphModule) -> int:
    """y = a(x); z = b(y, ...) → z = Calls(a, b)(x, ...), for calls of opswap's operators, and of modules that call
    nothing else, with nothing in between that reads their results. → how many operators"""
    done = 0
    for run in reversed(runs_of(graph)):  # each is given what those before it make, as their own nodes
        outputs = [node for node in run.nodes if not set(node.users) <= set(run.nodes)]
        made = {result for results in run.results for result in results}
        if len(run.lines) > 1 and all(
            isinstance(run.values[node], Value) and run.values[node] in made for node in outputs
        ):
            _replace(graph, run, outputs)
            done += len(run.lines)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return done


class Calls(nn.Module):
    """inputs, sizes → what `text` says, opswap::calls; constants: what the modules hold that it stands for

    The modules stay in the graph under their names, but are not called: hooks on them and tensors that they are given
    later are without effect. The constants are theirs, and are no part of a state_dict.
    """

    def __init__(self, text: str, constants: list[Tensor]) -> None:
        super().__init__()
        self.text, self.steps = text, steps_of(text)
        for number, constant in enumerate(constants):
            self.register_buffer(f"constant{number}", constant, persistent=False)

    def forward(self, inputs: list[Tensor], sizes: list[int]) -> list[Tensor]:
        if torch.compiler.is_compiling():  # to a graph that is traced each operator says more than all of them as one
            return self.each(inputs, sizes, lambda _, call: call())
        return torch.ops.opswap.calls(inputs, sizes, self.constants, self.text)

    def each(self, inputs: list[Tensor], sizes: list[int], by: By) -> list[Tensor]:
        """forward, operator by operator, each through by(its name, what calls it), which returns what that does"""
        return run_each(inputs, sizes, self.constants, self.steps, by)

    @property
    def constants(self) -> list[Tensor]:
        return list(self._buffers.values())  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(step.name for step in self.steps if step.operator is not None)


def _replace(graph: fx.GraphModule, run: Run, outputs: list[fx.Node]) -> None:
    read = set().union(*run.reads)
    inputs, constants = ([value for value in held if value in read] for held in (run.inputs, run.constants))
    text = text_of(run, [*inputs, *constants], [run.values[node] for node in outputs])
    name = next(name for name in map("calls_{}".format, range(len(graph.graph.nodes))) if not hasattr(graph, name))
    graph.add_submodule(name, Calls(text, [run.constants[value] for value in constants]).eval())
    with graph.graph.inserting_after(run.nodes[-1]):
        call = graph.graph.call_module(name, ([run.inputs[value] for value in inputs], [*run.sizes.values()]))
    for number, node in reversed(list(enumerate(outputs))):
        with graph.graph.inserting_after(call):
            part = graph.graph.call_function(operator.getitem, (call, number))
        part.meta.update(node.meta)
        node.replace_all_uses_with(part)
    for node in reversed(run.nodes):
        graph.graph.erase_node(node)
