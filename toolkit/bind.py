"""A lowered graph's code without its look-ups: what a call of a few tokens would spend most of its time on."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn


def bind(graph: fx.GraphModule) -> None:
    """`self.a.b.c(x)` in the code that runs → a call of that module, looked up once, in place.

    The graph itself keeps its nodes. `graph.recompile()`, which copies do too, brings the look-ups back.
    """
    bound = fx.Graph()
    bound.set_codegen(graph.graph._codegen)
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        made = copies[node] = bound.node_copy(node, copies.__getitem__)
        if node.op == "call_module":
            made.op, made.target = "call_function", _call_of(graph.get_submodule(str(node.target)))
    type(graph).forward = type(fx.GraphModule(graph, bound)).forward  # each GraphModule has a class of its own


def _call_of(module: nn.Module) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return module(*args, **kwargs)

    return call
