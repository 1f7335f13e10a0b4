"""A gated feed-forward, by itself and behind its linear layer: every kernel against the reference, and each other."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from operators import fused, gate, kernels, reference
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.forcing import assert_same_bits
from tests.operators.samples import linear, ops

Levels = tuple[bool, float, int, int]
GATES = [*product(gate.ACTIVATIONS, (False, True))]
# M, K and both halves: halves of 1, of every remainder of a register and of eight, blocks of many rows, none; the last
# are halves of rows that are longer than a row of bytes may be
SHAPES = [(1, 64, 256), (5, 3, 70), (6, 64, 2), (7, 33, 30), (23, 384, 1536), (101, 65, 96), (300, 16, 42), (0, 8, 8)]
WIDE = [(2, 4, 80_000), (49, 512, 2304)]
NEAR = [shape for shape in SHAPES[:-1] if shape[2] > 2]  # a row of one value has its levels by the error alone
PER_TOKEN = (True, 0.0, 128, 0)


def operands(m: int, k: int, n: int, levels: Levels) -> tuple[tuple[Tensor, Tensor, Tensor], tuple]:
    """rows, the linear's tensors"""
    g = torch.Generator().manual_seed(m)
    return reference.quantize_per_token(torch.randn(m, k, generator=g), *levels), linear(n, k).args()


def everything(shape: tuple[int, int, int], levels: Levels, of: Callable[[str], Callable]) -> list[Tensor]:
    """For each of GATES q, scale and zero point of the linear layer and its gate, and the gate's floats"""
    rows, weights = operands(*shape, levels)
    y = fused.linear_int8_rows(*rows, *weights)
    found: list[Tensor] = []
    for how in GATES:
        found += [*of("linear_int8_gate")(*rows, *weights, *how, *levels), of("gate")(y, *how)]
    return found


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES + WIDE, ids=str)
def test_all_kernels_and_thread_counts_give_the_same_bits(
    shape: tuple[int, int, int], how: str, threads: Callable[[int], None]
) -> None:
    assert_same_bits(lambda: everything(shape, ACTIVATIONS[how].levels(), lambda name: getattr(ops, name)), threads)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", NEAR + WIDE, ids=str)
def test_near_the_reference(shape: tuple[int, int, int], how: str) -> None:
    """Floats by SQNR; a level may differ by one where rounding was on the edge, in few places only."""
    found = everything(shape, ACTIVATIONS[how].levels(), lambda name: getattr(ops, name))
    expected = everything(shape, ACTIVATIONS[how].levels(), lambda name: getattr(gate, name))
    for at, (activation, _) in enumerate(GATES):
        steps = (found[4 * at].int() - expected[4 * at].int()).abs()
        assert int(steps.max()) <= 1
        assert float(steps.float().mean()) <= 0.01 + 2 / steps.numel()
        assert_sqnr(found[4 * at + 1], expected[4 * at + 1], 75)
        assert_sqnr(found[4 * at + 3], expected[4 * at + 3], 130 if activation == "silu" else 75)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES + WIDE, ids=str)
def test_fused_or_one_after_the_other_gives_the_same_bits(shape: tuple[int, int, int], how: str) -> None:
    levels = ACTIVATIONS[how].levels()
    rows, weights = operands(*shape, levels)
    y = ops.linear_int8_rows(*rows, *weights)
    for way in GATES:
        at_once = ops.linear_int8_gate(*rows, *weights, *way, *levels)
        in_two, in_three = ops.gate_rows(y, *way, *levels), ops.quantize_per_token(ops.gate(y, *way), *levels)
        for one, two, three in zip(at_once, in_two, in_three, strict=True):
            assert_equal_bits(one, two)
            assert_equal_bits(one, three)


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("activation, bound", [("gelu", 4.4e-5), ("gelu_tanh", 4.4e-5), ("silu", 2e-7)])
def test_the_error_of_an_activation(activation: str, bound: float, second: bool) -> None:
    x = torch.cat([torch.linspace(-6, 6, 200_001), torch.linspace(-130, 130, 200_001)])
    halves = torch.stack([x, torch.ones_like(x)][:: -1 if second else 1], 1)
    y, want = ops.gate(halves, activation, second)[:, 0], gate.gated(halves.double(), activation, second)[:, 0]
    assert float(((y - want).abs() / x.double().abs().clamp(min=1)).max()) < bound


@pytest.mark.parametrize("activation", gate.ACTIVATIONS)
def test_the_ends_of_the_numbers(activation: str) -> None:
    """What is far below is nothing, what is far above is itself, and what is not finite stays so."""
    x = torch.tensor([-3.4e38, -1e30, -200.0, 3.4e38, 1e30, 200.0, torch.nan, torch.inf, -torch.inf])
    halves = torch.stack([x, torch.ones_like(x)], 1)
    before = kernels.forced()
    try:
        for isa in kernels.runnable():
            kernels.use(isa)
            y = ops.gate(halves, activation, False)[:, 0]
            assert_equal_bits(y[:3].abs(), torch.zeros(3))
            assert_sqnr(y[3:6], x[3:6], 130)
            assert not y[6:].isfinite()[[0, 1]].any() and not y[8] < -1
    finally:
        kernels.use(before)


@pytest.mark.parametrize("activation", gate.ACTIVATIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_stay_so_and_alone(bad: float, activation: str) -> None:
    rows, weights = operands(30, 64, 96, PER_TOKEN)
    scale = rows[1].clone()
    scale[7] = bad
    out = ops.linear_int8_gate(rows[0], scale, rows[2], *weights, activation, False, True)
    assert [i for i, value in enumerate(out[1].isnan().tolist()) if value] == [7]


@pytest.mark.parametrize("how", GATES, ids=str)
def test_bfloat16_is_computed_in_float32(how: tuple[str, bool]) -> None:
    x = torch.randn(2, 3, 70).bfloat16()
    assert_equal_bits(ops.gate(x, *how), ops.gate(x.float(), *how).bfloat16())
    assert_equal_bits(gate.gate(x, *how), gate.gate(x.float(), *how).bfloat16())


def test_rows_that_lie_apart() -> None:
    x = torch.randn(40, 11).t()
    for how in GATES:
        assert_equal_bits(ops.gate(x, *how), ops.gate(x.contiguous(), *how))


@pytest.mark.parametrize("by_tanh", [False, True], ids=["erf", "tanh"])
@pytest.mark.parametrize("shape", [(1,), (5, 70), (2, 3, 4097), (0, 4), (9, 768)], ids=str)
def test_gelu_is_a_gate_of_ones(shape: tuple[int, ...], by_tanh: bool, threads: Callable, any_kernel: None) -> None:
    """Of every kernel and thread count the same bits, near the reference's."""
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    want = ops.gate(torch.cat([x, torch.ones_like(x)], -1), "gelu_tanh" if by_tanh else "gelu", False)
    assert len(want.flatten()) == 0 or float((want - gate.gelu(x, by_tanh)).abs().max()) < 4.3e-5
    for isa in kernels.runnable():
        kernels.use(isa)
        for count in (1, 2, 3):
            threads(count)
            assert_equal_bits(ops.gelu(x, by_tanh), want)
    assert_equal_bits(ops.gelu(x.bfloat16(), by_tanh), ops.gelu(x.bfloat16().float(), by_tanh).bfloat16())


def test_gelu_of_what_lies_apart() -> None:
    x = torch.randn(6, 40)
    assert_equal_bits(ops.gelu(x.t()), ops.gelu(x.t().contiguous()))
