"""The linear layer with GELU, or with residual and LayerNorm: every kernel against the reference, and each other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from operators import fused, kernels, reference
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.forcing import assert_same_bits
from tests.operators.samples import linear, ops

Levels = tuple[bool, float, int, int]
Rows = tuple[Tensor, Tensor, Tensor]

# M, K, N: one row, every remainder of the tiles' heights, blocks of many rows, tails of K and N, wide rows, none
SHAPES = [(1, 64, 64), (5, 3, 70), (6, 64, 130), (7, 33, 64), (23, 384, 1536), (101, 65, 96), (300, 16, 40), (0, 8, 8)]
WIDE = [(2, 64, 4096), (49, 1024, 1024)]


def operands(m: int, k: int, n: int, levels: Levels) -> tuple[Rows, tuple, tuple[Tensor, Tensor, Tensor]]:
    """rows, the linear's tensors, and (residual, gamma, beta)"""
    g = torch.Generator().manual_seed(m)
    rows = reference.quantize_per_token(torch.randn(m, k, generator=g), *levels)
    norm = torch.randn(m, n, generator=g), torch.randn(n, generator=g), torch.randn(n, generator=g)
    return rows, linear(n, k).args(), norm


def dequantized(rows: Rows) -> Tensor:
    q, scale, zero_point = rows
    return (q.float() - zero_point[:, None]) * scale[:, None]


def everything(m: int, k: int, n: int, levels: Levels, of: Callable[[str], Callable]) -> list[Tensor]:
    rows, weights, (residual, gamma, beta) = operands(m, k, n, levels)
    norm = (gamma, beta, 1e-5)
    return [
        of("linear_int8_rows")(*rows, *weights),
        of("linear_int8_rows")(*rows, *weights[:3], None),
        *of("linear_int8_gelu")(*rows, *weights, *levels),
        *of("linear_int8_add_norm")(*rows, *weights, residual, *norm, True, *levels),
        *of("linear_int8_add_norm")(*rows, *weights[:3], None, residual, *norm, False, *levels),
        *of("norm_rows")(residual, *norm, True, *levels),
        *of("norm_rows")(residual, *norm, True, *levels, gamma - 2, beta),
        *of("linear_int8_gelu")(*rows, *weights, *levels, True),
        *of("linear_int8_add_norm")(*rows, *weights, residual, *norm, True, *levels, None, None, True),
        *of("norm_rows")(residual, *norm, True, *levels, gamma - 2, beta, True),
        *of("linear_int8_add_norm")(*rows, *weights, residual, *norm, True, *levels, None, None, False, True),
        *of("norm_rows")(residual, *norm, True, *levels, gamma - 2, beta, True, True),
    ]


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES + WIDE, ids=str)
def test_all_kernels_and_thread_counts_give_the_same_bits(
    shape: tuple[int, int, int], how: str, threads: Callable[[int], None]
) -> None:
    assert_same_bits(lambda: everything(*shape, ACTIVATIONS[how].levels(), lambda name: getattr(ops, name)), threads)


@pytest.mark.parametrize("shape", SHAPES[:-1] + WIDE, ids=str)
def test_the_linear_equals_the_reference_to_the_bit(shape: tuple[int, int, int]) -> None:
    rows, weights, _ = operands(*shape, (True, 0.0, 128, 0))
    assert_equal_bits(ops.linear_int8_rows(*rows, *weights), fused.linear_int8_rows(*rows, *weights))


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES[:-1] + WIDE, ids=str)
def test_gelu_and_norm_are_near_the_reference(shape: tuple[int, int, int], how: str) -> None:
    """Floats by SQNR; a level may differ by one where rounding was on the edge, in few places only."""
    found = everything(*shape, ACTIVATIONS[how].levels(), lambda name: getattr(ops, name))
    expected = everything(*shape, ACTIVATIONS[how].levels(), lambda name: getattr(fused, name))
    assert_sqnr(found[5], expected[5], 120)
    assert_sqnr(found[9], expected[9], 120)
    assert_sqnr(found[13], expected[13], 120)
    assert_sqnr(found[32], expected[32], 120)
    assert_equal_bits(found[24], expected[24])
    assert_equal_bits(found[28], expected[28])
    assert_equal_bits(found[36], expected[36])
    for at in (2, 6, 14, 18, 21, 25, 29, 33, 37):
        steps = (found[at].int() - expected[at].int()).abs()
        assert int(steps.max()) <= 1
        assert float(steps.float().mean()) <= 0.01 + 2 / steps.numel()
        assert_sqnr(found[at + 1], expected[at + 1], 75)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES + WIDE, ids=str)
def test_fused_or_one_after_the_other_gives_the_same_bits(shape: tuple[int, int, int], how: str) -> None:
    levels = ACTIVATIONS[how].levels()
    rows, weights, (residual, gamma, beta) = operands(*shape, levels)
    y = ops.linear_int8_rows(*rows, *weights)
    norm = (gamma, beta, 1e-5, True, *levels)
    smooth = (gamma - 2, beta)
    pairs = [
        (ops.linear_int8_gelu(*rows, *weights, *levels), ops.gelu_rows(y, *levels)),
        (ops.linear_int8_add_norm(*rows, *weights, residual, *norm), ops.norm_rows(y + residual, *norm)),
        (
            ops.linear_int8_add_norm(*rows, *weights, residual, *norm, *smooth),
            ops.norm_rows(y + residual, *norm, *smooth),
        ),
    ]
    pairs.append((ops.norm_rows(y, *norm, *smooth, residual=residual), ops.norm_rows(y + residual, *norm, *smooth)))
    pairs.append((ops.linear_int8_gelu(*rows, *weights, *levels, True), ops.gelu_rows(y, *levels, True)))
    for more, rms in ((smooth, False), ((None, None), False), (smooth, True)):
        normed, *made = ops.norm_rows(y + residual, *norm, *more, False, rms)
        for keeps_sum, first in ((True, y + residual), (False, normed)):
            ways = *norm, *more, keeps_sum, rms
            pairs.append((ops.linear_int8_add_norm(*rows, *weights, residual, *ways), (first, *made)))
            pairs.append((ops.norm_rows(y, *ways, residual=residual), (first, *made)))
    for fused_at_once, in_turn in pairs:
        for one, other in zip(fused_at_once, in_turn, strict=True):
            assert_equal_bits(one, other)


@pytest.mark.parametrize("through", [ops, fused], ids=["kernels", "reference"])
@pytest.mark.parametrize("n", [1, 70, 768])
def test_rms_does_not_subtract_the_mean(n: int, through: Any) -> None:
    g = torch.Generator().manual_seed(n)
    x, gamma, beta = torch.randn(5, n, generator=g) + 3, *torch.randn(2, n, generator=g)
    y, *_ = through.norm_rows(x, gamma, beta, 1e-3, False, True, 0.0, 128, 0, None, None, False, True)
    total = x.double()
    want = total / (total.square().mean(-1, keepdim=True) + 1e-3).sqrt() * gamma + beta
    assert_sqnr(y, want.float(), 120)


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_the_error_of_gelu(kind: str) -> None:
    """x·Φ(x) over its whole range, told by a linear that is the identity: levels of 1/127 of the row's largest."""
    x = torch.linspace(-6, 6, 100_000).view(-1, 1).expand(-1, 4).contiguous()
    rows = reference.quantize_per_token(x, True)
    weight = torch.tensor([[127, 0, 0, 0]], dtype=torch.int8)
    weights = (ops.pack_weight(weight), torch.tensor([127], dtype=torch.int32), torch.tensor([1 / 127]), None)
    out = dequantized(ops.linear_int8_gelu(*rows, *weights, True, 0.0, 128, 0, kind == "tanh"))
    y = ops.linear_int8_rows(*rows, *weights)
    # one value a row: it is its own largest, so nothing is lost by quantizing
    assert float((out - torch.nn.functional.gelu(y.double(), approximate=kind)).abs().max()) < 4.4e-5


def test_a_sum_that_nothing_is_quantized_of_is_refused() -> None:
    rows, weights, (residual, gamma, beta) = operands(5, 16, 24, (True, 0.0, 128, 0))
    given = (gamma, beta, 1e-5, False, True, 0.0, 128, 0, None, None, True)
    for of in (ops, fused):
        with pytest.raises((ValueError, RuntimeError), match="norm_rows: keeps_sum must come with quantize; got"):
            of.norm_rows(residual, *given)
        with pytest.raises((ValueError, RuntimeError), match="linear_int8_add_norm: keeps_sum must come with"):
            of.linear_int8_add_norm(*rows, *weights, residual, *given)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_stay_so_and_alone(bad: float) -> None:
    rows, weights, (residual, gamma, beta) = operands(30, 64, 96, (True, 0.0, 128, 0))
    scale = rows[1].clone()
    scale[7] = bad
    rows = (rows[0], scale, rows[2])
    for out_scale in (
        ops.linear_int8_gelu(*rows, *weights, True)[1],
        ops.linear_int8_add_norm(*rows, *weights, residual, gamma, beta, 1e-5, True, True)[2],
    ):
        assert [i for i, value in enumerate(out_scale.isnan().tolist()) if value] == [7]


@pytest.mark.parametrize("quantize", [False, True])
def test_the_norm_of_one_table(quantize: bool, any_kernel: None) -> None:
    """The bits of the norm of what is looked up."""
    g = torch.Generator().manual_seed(0)
    table, ids = torch.randn(9, 70, generator=g), torch.randint(0, 9, (37,), generator=g)
    how = (torch.randn(70, generator=g), torch.randn(70, generator=g), 1e-5, quantize, False)
    for isa in kernels.runnable():
        kernels.use(isa)
        for one, other in zip(
            ops.embed_norm(ids, table, None, None, None, None, *how), ops.norm_rows(table[ids], *how), strict=True
        ):
            assert_equal_bits(one, other)
