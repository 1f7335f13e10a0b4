"""Layers that become one module, and those that cannot: put together by hand, as no encoder has them."""

import operator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import fx, nn

from targets._attention import AttentionRows
from targets._fused import FeedForward, Layers, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._linear import Activation, QuantizedLinear
from tests.checks import assert_equal_bits
from toolkit.fuse.layers import fuse_layers
from toolkit.rewrite import run

WIDTH, WIDE, HEADS = 12, 20, 2
HOW = Activation()


@dataclass(frozen=True)
class Shape:
    """How a graph of four layers differs from a plain one, and the layers that come together."""

    scales: tuple[float, ...] = (0.5,) * 4
    levels: Activation = HOW  # of the attention in the third layer
    read: tuple[int, int] | None = None  # a layer whose residual (0) or qkv (1) is a result too
    residual: int | None = None  # the layer whose residual is another one's
    keep: int | None = None  # the layer from which on other tokens are looked at
    again: bool = False  # the modules of the last layer are those of the one before
    found: tuple[int, ...] = (4,)


SHAPES = {
    "alike": Shape(),
    "static levels": Shape(levels=Activation(True, 0.25, 128)),
    "asymmetric levels": Shape(levels=Activation(False), found=(2,)),
    "another scale": Shape(scales=(0.5, 0.5, 0.25, 0.25), found=(2, 2)),
    "another scale at the end": Shape(scales=(0.5, 0.5, 0.5, 0.25), found=(3,)),
    "the residual of the second is read": Shape(read=(1, 0), found=(2, 2)),
    "query, key and value of the third are read": Shape(read=(2, 1), found=(3,)),
    "a residual from elsewhere": Shape(residual=1, found=(3,)),
    "other tokens": Shape(keep=2, found=(2, 2)),
    "a layer that is called twice": Shape(again=True, found=(2,)),
}


def linear(inputs: int, outputs: int) -> QuantizedLinear:
    return QuantizedLinear.from_linear(nn.Linear(inputs, outputs), HOW)


def add_norm(inputs: int, last: bool) -> RowsLinearAddNorm:
    return RowsLinearAddNorm(
        linear(inputs, WIDTH), torch.rand(WIDTH) + 0.5, torch.randn(WIDTH), 1e-5, None if last else HOW
    )


def feed_forward(last: bool) -> FeedForward:
    then = None if last else RowsLinear(linear(WIDTH, 3 * WIDTH))
    return FeedForward(add_norm(WIDTH, False), RowsLinearGelu(linear(WIDTH, WIDE), HOW), add_norm(WIDE, last), then)


def graph_of(shape: Shape) -> fx.GraphModule:
    torch.manual_seed(0)
    graph = fx.Graph()
    modules: dict[str, nn.Module] = {}
    qkv, residual, starts, keep, other = (graph.placeholder(name) for name in ("qkv", "x", "starts", "keep", "other"))
    given, results = residual, []
    for number, scale in enumerate(shape.scales):
        last = number == 3 and not shape.again
        levels = shape.levels if number == 2 else HOW
        used = 2 if shape.again and number == 3 else number
        modules.setdefault(f"attention{used}", AttentionRows(HEADS, scale, levels))
        modules.setdefault(f"feed{used}", feed_forward(last))
        kept = other if shape.keep is not None and number >= shape.keep else keep
        rows = graph.call_module(f"attention{used}", (qkv, starts, kept))
        made = graph.call_module(f"feed{used}", (rows, given if shape.residual == number else residual))
        if not last:
            residual, qkv = (graph.call_function(operator.getitem, (made, index)) for index in (0, 1))
        if shape.read and shape.read[0] == number:
            results.append((residual, qkv)[shape.read[1]])
    graph.output((*results, residual if shape.again else made))
    return fx.GraphModule(modules, graph)


def inputs() -> tuple[torch.Tensor, ...]:
    keep = torch.tensor([True, True, False, True, True, True, True])
    return torch.randn(7, 3 * WIDTH), torch.randn(7, WIDTH), torch.tensor([0, 4, 7], dtype=torch.int32), keep, ~keep


@pytest.mark.parametrize("name", SHAPES)
def test_layers_that_follow_each_other_become_one_module(name):
    shape = SHAPES[name]
    graph, given = graph_of(shape), inputs()
    expected = graph(*given)
    assert run(graph, (fuse_layers,)) == [sum(shape.found)]
    made = [module for module in graph.modules() if isinstance(module, Layers)]
    assert tuple(len(module.attentions) for module in made) == shape.found
    for have, want in zip(graph(*given), expected, strict=True):
        assert_equal_bits(have, want)


def test_one_layer_stays_as_it_is():
    alone = replace(SHAPES["alike"], scales=(0.5,), found=())
    assert run(graph_of(alone), (fuse_layers,)) == [0]
