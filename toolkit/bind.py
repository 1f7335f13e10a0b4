"""A lowered graph's code without its look-ups: what a call of a few tokens would spend most of its time on."""

from collections.abc import Callable
from typing import Any

from torch import fx

from toolkit.share import same_nodes


def bind(graph: fx.GraphModule) -> None:
    """`self.a.b.c(x)` in the code that runs → a call of what `self.a.b` holds as c, itself looked up once, in place.

    The graph itself keeps its nodes, and a module that is put in the place of another is called. `graph.recompile()`,
    which copies do too, brings the look-ups back.
    """
    bound = same_nodes(graph)
    for node in bound.nodes:
        if node.op == "call_module":
            node.op, node.target = "call_function", _call_of(graph, str(node.target))
    type(graph).forward = type(fx.GraphModule(graph, bound)).forward  # each GraphModule has a class of its own


def _call_of(graph: fx.GraphModule, target: str) -> Callable[..., Any]:
    owner, _, name = target.rpartition(".")
    modules = graph.get_submodule(owner)._modules

    def call(*args: Any, **kwargs: Any) -> Any:
        return modules[name](*args, **kwargs)  # type: ignore[misc]

    return call
