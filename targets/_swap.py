"""A target's own modules in place of those of a quantized and fused graph."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from targets._fused import FUSED


def swap_modules(graph: fx.GraphModule, makers: Mapping[type[nn.Module], Callable[[Any], nn.Module]]) -> int:
    """Replaces each module whose class is a key of `makers` by makers[class](it), under the same name.

    What lies inside a fused module is that module's own business and is not swapped by itself. → how many
    """
    found = [name for name, module in outermost(graph) if type(module) in makers]
    for name in found:  # by name: nothing holds a module, with its weights, once another has its place
        graph.set_submodule(name, _made(graph.get_submodule(name), makers))
    return len(found)


def _made(module: nn.Module, makers: Mapping[type[nn.Module], Callable[[Any], nn.Module]]) -> nn.Module:
    return makers[type(module)](module).eval()


def outermost(graph: fx.GraphModule) -> list[tuple[str, nn.Module]]:
    """→ the modules of `graph` by their names, without those inside fused modules"""
    fused = [f"{name}." for name, module in graph.named_modules() if type(module) in FUSED]
    return [(name, module) for name, module in graph.named_modules() if not name.startswith(tuple(fused))]
