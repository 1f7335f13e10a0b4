"""Chains of linears that compute each token by itself, put together by hand as no encoder has them."""

import operator

import pytest
import torch
from torch import fx, nn

from targets._fused import FeedForward, Quantize, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._linear import Activation, QuantizedLinear
from tests.checks import assert_equal_bits
from toolkit.fuse.feed_forward import fuse_feed_forward
from toolkit.rewrite import run

WIDTH, WIDE = 12, 20
HOW = Activation()


def linear(inputs: int, outputs: int) -> QuantizedLinear:
    return QuantizedLinear.from_linear(nn.Linear(inputs, outputs), HOW)


def add_norm(inputs: int) -> RowsLinearAddNorm:
    return RowsLinearAddNorm(linear(inputs, WIDTH), torch.rand(WIDTH) + 0.5, torch.randn(WIDTH), 1e-5, HOW)


def graph_of(layers: int) -> fx.GraphModule:
    """x, residual → a linear with its norm; `layers` times a wide linear and one back with its norm; a linear"""
    torch.manual_seed(0)
    graph = fx.Graph()
    modules: dict[str, nn.Module] = {"quantize": Quantize(HOW), "norm0": add_norm(WIDTH)}
    x, residual = graph.placeholder("x"), graph.placeholder("residual")
    made = graph.call_module("norm0", (graph.call_module("quantize", (x,)), residual))
    for number in range(1, layers + 1):
        y, rows = (graph.call_function(operator.getitem, (made, index)) for index in (0, 1))
        modules[f"wide{number}"] = RowsLinearGelu(linear(WIDTH, WIDE), HOW)
        modules[f"norm{number}"] = add_norm(WIDE)
        made = graph.call_module(f"norm{number}", (graph.call_module(f"wide{number}", (rows,)), y))
    y, rows = (graph.call_function(operator.getitem, (made, index)) for index in (0, 1))
    modules["then"] = RowsLinear(linear(WIDTH, WIDTH))
    graph.output((y, graph.call_module("then", (rows,))))
    return fx.GraphModule(modules, graph)


@pytest.mark.parametrize(("layers", "fused"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_chains_next_to_each_other_are_counted_as_often_as_they_are_there(layers, fused):
    graph = graph_of(layers)
    x, residual = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    expected = graph(x, residual)
    assert run(graph, (fuse_feed_forward,)) == [fused]
    assert sum(isinstance(module, FeedForward) for module in graph.modules()) == fused
    for have, want in zip(graph(x, residual), expected, strict=True):
        assert_equal_bits(have, want)
