"""A layer's linears in one operator: the bits of its operators in turn, by every kernel and thread count."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from operators import feed_forward, fused, kernels, reference
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits
from tests.operators.samples import linear, ops

Levels = tuple[bool, float, int]

# M, K, N, L, P: few rows and none, one block, blocks for each thread, tails everywhere
SHAPES = [(1, 64, 64, 128, 64), (7, 33, 70, 130, 96), (0, 8, 8, 8, 8), (80, 64, 96, 65, 130), (301, 16, 40, 100, 24)]
SMOOTHED, PLAIN, INNER = "smoothed", "plain", "norms inside, GELU by tanh"


def arguments(shape: tuple[int, ...], levels: Levels, quantize: bool, then: bool, smooth: str = PLAIN) -> tuple:
    m, k, n, wide, last = shape
    g = torch.Generator().manual_seed(m)
    rows = reference.quantize_per_token(torch.randn(m, k, generator=g), *levels)
    norms = [(torch.randn(n, generator=g), torch.randn(n, generator=g), 1e-5) for _ in range(2)]
    ways = (norms[1][0] - 2, norms[0][1]) if smooth == SMOOTHED else (None, None)
    inner = smooth == INNER
    first = (*rows, *linear(n, k).args(), torch.randn(m, n, generator=g), *norms[0], *levels, *ways, inner)
    second = (*linear(n, wide, bias=False).args(), *norms[1], quantize, *levels, *ways, inner and quantize)
    read = linear(last, n).args() if then else (None,) * 4
    return *first, *linear(wide, n).args(), *levels, inner, *second, *read


def in_turn(args: tuple) -> list[Tensor]:
    """The compiled operators, one after the other."""
    return list(feed_forward.compose(args, ops.linear_int8_add_norm, ops.linear_int8_gelu, ops.linear_int8_rows))


@pytest.fixture
def any_kernel() -> Iterator[None]:
    before = kernels.forced()
    yield
    kernels.use(before)


@pytest.mark.parametrize("smooth", [PLAIN, SMOOTHED, INNER])
@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_its_operators_one_after_the_other(shape, how, ends, smooth, threads, any_kernel) -> None:
    args = arguments(shape, ACTIVATIONS[how].levels(), *ends, smooth)
    expected = in_turn(args)
    for isa in kernels.runnable():
        kernels.use(isa)
        for count in (1, 2, 3):
            threads(count)
            for one, other in zip(ops.feed_forward_int8(*args), expected, strict=True):
                assert_equal_bits(one, other)


def test_blocks_of_a_real_layer(threads) -> None:
    args = arguments((150, 384, 384, 1536, 1152), (False, 0.0, 128), True, True)
    expected = in_turn(args)
    for count in (1, 2, 3):
        threads(count)
        for one, other in zip(ops.feed_forward_int8(*args), expected, strict=True):
            assert_equal_bits(one, other)


@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
def test_the_reference_is_made_of_references(ends) -> None:
    args = arguments(SHAPES[1], (True, 0.0, 128), *ends, INNER)
    y, *rows = fused.linear_int8_add_norm(*args[:11], True, *args[11:17])
    wide = fused.linear_int8_gelu(*rows, *args[17:25])
    y, *rows = fused.linear_int8_add_norm(*wide, *args[25:29], y, *args[29:39])
    if ends[1]:
        expected = [y, *(part[:0] for part in rows), fused.linear_int8_rows(*rows, *args[39:])]
    else:
        expected = [y, *rows, torch.empty(0, 0)]
    for one, other in zip(feed_forward.feed_forward_int8(*args), expected, strict=True):
        assert_equal_bits(one, other)


def test_a_row_that_is_not_finite_stays_so_and_alone() -> None:
    args = list(arguments((30, 64, 96, 128, 64), (True, 0.0, 128), True, True))
    args[1] = args[1].clone()
    args[1][7] = torch.nan
    y, *_, z = ops.feed_forward_int8(*args)
    for values in (y, z):
        assert values.isnan().any(1).nonzero().flatten().tolist() == [7]
