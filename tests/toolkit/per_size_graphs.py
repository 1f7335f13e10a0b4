"""Graphs of a function of lengths and a parameter, before and after what depends on those alone is kept."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from tests.toolkit.small_graphs import graph_of
from toolkit.fuse.kept import PerSize
from toolkit.fuse.per_size import keep_per_size
from toolkit.pipeline import clean

SHAPES = [(1, 5), (3, 9), (2, 9), (1, 1), (2, 30), (4, 5), (1, 17), (1, 9)]


def tables(length: int) -> Tensor:
    """→ float32 [length, length], of some steps"""
    places = torch.arange(length)
    return (places[:, None] - places[None]).abs().float().log1p().cos()


class Model(nn.Module):
    """x [B, S, 6] → function(x, weight [64, 6])"""

    weight: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Any], rows: int = 64) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("weight", torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight)


def kept_by(graph: fx.GraphModule) -> list[PerSize]:
    return [module for module in graph.modules() if isinstance(module, PerSize)]


def assert_same_graph(graph: fx.GraphModule, want: fx.GraphModule) -> None:
    """At several sizes, each of them twice: of what the first call writes to, the second would be given"""
    for batch, length in SHAPES:
        x = torch.randn(batch, length, 6, generator=torch.Generator().manual_seed(length))
        for _ in range(2):
            torch.testing.assert_close(graph(x.clone()), want(x.clone()), rtol=0, atol=0)


def passed(function: Callable[[Tensor, Tensor], Any], rows: int = 64) -> tuple[fx.GraphModule, int]:
    """→ the graph after the pass, which gives what it gave before, and the pass's count"""
    graph = graph_of(Model(function, rows))
    before = copy.deepcopy(graph)
    found = keep_per_size(graph)
    clean(graph)
    assert_same_graph(graph, before)
    assert len(kept_by(graph)) == found
    return graph, found
