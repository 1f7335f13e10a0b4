"""Reading Q/DQ graphs, written here by hand with PyTorch's operators: same integers, same numbers, or why not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401  defines the operators
import torch.nn.functional as F
from torch import Tensor, fx, nn

from targets._fused import RowsLinear
from targets._linear import Activation, QuantizedLinear
from targets._whole import QuantizeWhole, Whole
from tests.checks import assert_sqnr
from tests.toolkit.qdq_layers import (
    INPUTS,
    INT8,
    S8,
    SCALE,
    U8,
    Layer,
    X,
    around_128,
    by_channel,
    by_input,
    graph_of,
    one_scale,
    q,
    static,
    unfolded,
    with_zero_points,
)
from toolkit.pipeline import PASSES, run
from toolkit.qdq import read_qdq
from toolkit.qdq.nodes import BYTES, operator_of
from toolkit.report import KEPT

SAME_DB = 110.0  # float products and sums of them, against integers that are scaled once


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs(kind: str) -> None:
    quantized, how = INPUTS[kind]
    gm = graph_of(Layer(quantized, by_channel))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [1]
    assert not any("quantized_decomposed" in str(node.target) for node in gm.graph.nodes)
    (linear,) = (module for module in gm.modules() if isinstance(module, QuantizedLinear))
    assert torch.equal(linear.weight, INT8) and torch.equal(linear.scale, torch.tensor([0.1, 0.2, 0.3]))
    if isinstance(how, Activation):
        assert linear.activation == how
    else:
        assert any(getattr(module, "how", None) == how for module in gm.modules())
    assert_sqnr(gm(X), expected, SAME_DB)
    assert gm(X[:1, :2]).shape == (1, 2, 3)


TOKEN = ("per token", "per token, symmetric")


class Levels(fx.Interpreter):
    """Runs a graph; `seen`: what its quantize operator made, as signed or unsigned bytes"""

    def run_node(self, node: fx.Node) -> Any:
        made = super().run_node(node)
        if operator_of(node) == "quantize_per_tensor":
            self.seen = made
        return made


@pytest.mark.parametrize("kind", [kind for kind in INPUTS if kind not in TOKEN and kind != "static, 7 bits"])  # clamped
@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 300.0])
def test_the_levels_are_those_of_pytorchs_operators(kind: str, size: float) -> None:
    """Every one of them: the range of a whole tensor takes in its padding, and ties are broken alike."""
    quantized, how = INPUTS[kind]
    x = size * torch.randn(8, 3000, 6, generator=torch.Generator().manual_seed(1))
    x[:, 2000:] *= 2  # as padding may
    graph = Levels(graph_of(Layer(quantized, by_channel)))
    with torch.no_grad():
        graph.run(x)
    have = (QuantizeWhole(how)(x) if isinstance(how, Whole) else how.quantize(x))[0].to(torch.int32)
    assert torch.equal(have.view(x.shape), graph.seen.to(torch.int32) + BYTES[graph.seen.dtype])


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("weight", [by_channel, unfolded, around_128, one_scale], ids=lambda made: made.__name__)
def test_weights(weight: Callable[[Layer], Tensor], bias: bool) -> None:
    gm = graph_of(Layer(static(117, 0, 255, U8), weight, bias))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [1]
    (linear,) = (module for module in gm.modules() if isinstance(module, QuantizedLinear))
    assert torch.equal(linear.weight, INT8) and (linear.bias is not None) == bias
    assert_sqnr(gm(X), expected, SAME_DB)


def mismatched(x: Tensor) -> Tensor:
    return q.dequantize_per_tensor(q.quantize_per_tensor(x, SCALE, 9, 0, 255, U8), SCALE, 8, 0, 255, U8)


def another_range(x: Tensor) -> Tensor:
    scale, zero = q.choose_qparams.tensor(x * 2, 0, 255, 1e-6, U8)
    levels = q.quantize_per_tensor.tensor(x, scale, zero, 0, 255, U8)
    return q.dequantize_per_tensor.tensor(levels, scale, zero, 0, 255, U8)


def fewer_levels(x: Tensor) -> Tensor:
    scale, zero = q.choose_qparams_per_token_asymmetric(x, S8)
    levels = q.quantize_per_token(x, scale, zero, -127, 127, S8)
    return q.dequantize_per_token(levels, scale, zero, -127, 127, S8, torch.float32)


REFUSED = {
    "per token, a level less": (fewer_levels, by_channel, "other levels than those of a signed byte"),
    "weight with zero points": (static(9, 0, 255, U8), with_zero_points, "zero points"),
    "weight by input": (lambda x: static(9, 0, 255, U8)(x), by_input, "axis 1"),
    "weight only": (lambda x: x, by_channel, "not quantized right before it"),
    "quantized one way, dequantized another": (mismatched, by_channel, "with one zero_point and dequantized"),
    "16 bits": (static(0, -32768, 32767, torch.int16), by_channel, "int16"),
    "another tensor's range": (another_range, by_channel, "range of another tensor"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_stays_and_says_why(kind: str) -> None:
    quantized, weight, why = REFUSED[kind]
    gm = graph_of(Layer(quantized, weight))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [0]
    run(gm, PASSES)
    assert torch.equal(gm(X), expected)
    assert [why in entry["why"] for entry in gm.meta[KEPT].values()] == [True]


@pytest.mark.parametrize("kind", ["per tensor", "whole"])
def test_what_is_written_to_in_between_stays_and_says_why(kind: str) -> None:
    quantized = static(117, 0, 255, U8) if kind == "per tensor" else INPUTS[kind][0]

    def then_written(x: Tensor) -> Tensor:
        levels = quantized(x)
        x.mul_(3)
        return levels

    gm = graph_of(Layer(then_written, by_channel))
    expected = gm(X.clone())
    run(gm, PASSES)
    assert torch.equal(gm(X.clone()), expected)
    assert ["x is written to" in entry["why"] for entry in gm.meta[KEPT].values()] == [True]


class Twice(nn.Module):
    """One layer, called twice; its input is quantized by another range each time, or by its own"""

    def __init__(self, *quantized: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = quantized
        self.layer = nn.Linear(6, 6)
        self.register_buffer("scales", torch.full((6,), 0.01))
        self.register_buffer("zeros", torch.zeros(6, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        levels = q.quantize_per_channel(self.layer.weight, self.scales, self.zeros, 0, -128, 127, S8)
        weight = q.dequantize_per_channel(levels, self.scales, self.zeros, 0, -128, 127, S8)
        x = F.linear(self.first(x), weight, self.layer.bias)
        return F.linear(self.second(x), weight, self.layer.bias)


def test_two_ways_to_quantize_the_input_of_one_layer_are_two_modules() -> None:
    gm = graph_of(Twice(static(117, 0, 255, U8), static(100, 0, 255, U8)))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [2]
    names = [name for name, module in gm.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(names) == 2 and not any("quantized_decomposed" in str(node.target) for node in gm.graph.nodes)
    assert_sqnr(gm(X), expected, SAME_DB)


def test_calls_that_quantize_alike_share_one_module() -> None:
    dynamic = INPUTS["whole"][0]
    gm = graph_of(Twice(dynamic, dynamic))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [2]
    assert [type(module) for module in gm.modules()].count(RowsLinear) == 1
    assert_sqnr(gm(X), expected, SAME_DB)


def test_a_layer_that_is_read_once_and_left_once_keeps_its_float_weight() -> None:
    gm = graph_of(Twice(static(117, 0, 255, U8), lambda x: x))
    expected = gm(X)
    assert run(gm, [read_qdq]) == [1]
    assert_sqnr(gm(X), expected, SAME_DB)
