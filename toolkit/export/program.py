"""A captured graph → an ExportedProgram with the model's own names, for whoever writes it to a file."""

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from toolkit.export.errors import ExportError
from toolkit.inputs import KEY, Inputs, example


class Flat(nn.Module):
    """The graph under the names of its own weights, run node by node, so that each keeps the place in the model that
    it came from: what the graph calls a.b.c is a.b.c here."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        for name, child in graph.named_children():
            self.add_module(name, child)
        for name, parameter in graph.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in graph.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.forward = forward_of(self, graph)  # type: ignore[method-assign]


def forward_of(home: nn.Module, graph: fx.GraphModule) -> Callable[..., Any]:
    """→ runs the graph on the modules and tensors of `home`; a function with the graph's arguments by their names,
    which is how torch.export names the inputs"""
    names = graph.meta[KEY].names

    def forward(*args: Tensor, **kwargs: Tensor) -> Any:
        with fx.traceback.preserve_node_meta():  # type: ignore[attr-defined]
            return fx.Interpreter(home, graph=graph.graph).run(*args, *(kwargs[name] for name in names[len(args) :]))

    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    forward.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return forward


def program_of(graph: fx.GraphModule) -> tuple[ExportedProgram, list[str]]:
    """→ the graph, any batch and length, and the names of its outputs, in order. Raises ExportError."""
    inputs: Inputs = graph.meta[KEY]
    if inputs.past:
        raise ExportError(f"a file takes whole texts; {type(graph).__name__}'s graph has a cache: leave that out first")
    given = example(graph, inputs)
    free = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in given}
    try:
        with torch.no_grad():
            program = torch.export.export(Flat(graph).eval(), (), given, dynamic_shapes=free, strict=False)
    except Exception as error:  # whatever the graph's operators raise is the reason
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{type(graph).__name__} can't be exported: {reason[0]}") from error
    return program, outputs_of(graph)


def outputs_of(graph: fx.GraphModule) -> list[str]:
    """→ start_logits, end_logits, ...: as the model's output calls them, by position where it has no names"""
    output: Any = graph.graph.output_node().args[0]
    info: Any = graph.graph._codegen.pytree_info  # type: ignore[attr-defined]
    keys = info.out_spec.context
    named = isinstance(keys, list) and len(keys) == len(output) and all(isinstance(key, str) for key in keys)
    return list(keys) if named else [f"output_{number}" for number in range(len(output))]
