"""A finished graph on another device of PyTorch's: called with tensors from anywhere, it answers on the CPU.

A cache of keys and values stays on the device, and the next call takes it from there.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree

Run = Callable[..., Any]
CACHE = "past_key_values"  # the field of the model's output
PLACED = "opswap_placed"  # in a graph's meta: the device that its calls run on, where it was placed on one


@contextmanager
def quiet_copies() -> Iterator[None]:
    """Copying how a graph is called asks torch for something that it calls outdated, and warns of itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        yield


def place(graph: fx.GraphModule, device: torch.device, wrap: Callable[[fx.GraphModule], Run] | None = None) -> None:
    """Makes every call of `graph`, and of its deep copies, run on `device`, in place; wrap: what compiles or records
    the part that runs there, for each copy anew.

    The graph's modules move to the device; the model that it was captured from stays where it is.
    """
    _install(graph, device, wrap)
    graph._register_deepcopy_hook(partial(_install, device=device, wrap=wrap))


def _install(graph: fx.GraphModule, device: torch.device, wrap: Callable[[fx.GraphModule], Run] | None) -> None:
    with quiet_copies():
        moved = fx.GraphModule(graph, copy.deepcopy(graph.graph), class_name=type(graph).__name__).eval()
    move(moved, device)
    run = wrap(moved) if wrap else moved

    def forward(**given: Tensor) -> Any:
        found = run(**{name: value.to(device) for name, value in given.items()})
        return _pytree.tree_map_with_path(answer, found)

    def answer(path: tuple[Any, ...], value: Any) -> Any:
        stays = any(getattr(key, "key", None) == CACHE for key in path)
        return value.cpu() if isinstance(value, Tensor) and not stays else value

    graph.forward = forward  # type: ignore[method-assign]
    graph.meta[PLACED] = device


def move(graph: fx.GraphModule, device: torch.device) -> int:
    """f(..., device=cpu) → f(..., device=device), in graphs that it calls too, and weights and buffers to the device.
    → how many calls"""
    count = 0
    for part in [module for module in graph.modules() if isinstance(module, fx.GraphModule)]:
        for node in part.graph.nodes:
            args, kwargs = _pytree.tree_map_only(torch.device, lambda _: device, (node.args, node.kwargs))
            if (args, kwargs) != (node.args, node.kwargs):
                node.args, node.kwargs = args, kwargs
                count += 1
        part.recompile()
    graph.to(device)
    return count
