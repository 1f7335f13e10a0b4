"""linear_int8 and quantize_per_token of every kernel equal the Python reference bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import kernels, reference
from operators.validate import MAX_K, ROTATIONS
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.samples import linear, ops

Levels = tuple[bool, float, int, int]

SHAPES = [(1, 1), (13, 70), (2, 5, 66), (2, 3, 4, 131), (37, 3), (43, 61), (0, 8), (2, 0, 8), (33,)]


def special_rows() -> torch.Tensor:
    """Rows that quantization must not trip over."""
    x = torch.randn(14, 37, generator=torch.Generator().manual_seed(1))
    x[0] = 0
    x[1, 3], x[2, 36], x[3, 0] = torch.nan, torch.inf, -torch.inf
    x[4] = torch.nan
    x[5], x[6], x[7] = x[5].abs(), -x[6].abs(), -0.0
    x[8] *= 1e-44  # subnormal
    x[9] *= 1e-38  # scales around the smallest normal float
    x[10] *= 1e36
    x[11, :2] = torch.tensor([3.4e38, -3.4e38])  # finite, but the range is not
    x[12] = torch.arange(37) - 18 + 0.5  # ties of rounding
    x[12, 0] = 127
    x[13] = 2.5
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantize(isa: str, levels: Levels, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    for have, want in zip(ops.quantize_per_token(x, *levels), reference.quantize_per_token(x, *levels), strict=True):
        assert_equal_bits(have, want, isa)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("rotation", ROTATIONS[1:])
def test_every_block_of_rows_that_are_rotated(isa: str, rotation: int, symmetric: bool) -> None:
    """Whole registers of blocks, what is left of them, and what is left of a block; rows by four and one by one."""
    for k in (rotation, 256, 300, 1030):
        x = torch.randn(6, k, generator=torch.Generator().manual_seed(k))
        how = (symmetric, 0.0, 128, rotation)
        for have, want in zip(ops.quantize_per_token(x, *how), reference.quantize_per_token(x, *how), strict=True):
            assert_equal_bits(have, want, f"{isa} {k}")


def test_quantize_special_rows(isa: str, levels: Levels) -> None:
    x = special_rows()
    for have, want in zip(ops.quantize_per_token(x, *levels), reference.quantize_per_token(x, *levels), strict=True):
        assert_equal_bits(have, want, isa)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear(isa: str, levels: Levels, shape: tuple[int, ...], bias: bool) -> None:
    x, layer = torch.randn(shape, generator=torch.Generator().manual_seed(3)), linear(70, shape[-1], bias)
    want = reference.linear_int8(x, *layer.args(), *levels)
    assert want.shape == (*shape[:-1], 70)
    assert_equal_bits(ops.linear_int8(x, *layer.args(), *levels), want, isa)


def test_special_rows(isa: str, levels: Levels) -> None:
    x, layer = special_rows(), linear(20, 37)
    have = ops.linear_int8(x, *layer.args(), *levels)
    assert_equal_bits(have, reference.linear_int8(x, *layer.args(), *levels), isa)
    assert have[1:5].isnan().all(), "rows with NaN or infinity give NaN"
    rest = [0, *range(5, 11), 12, 13]
    assert have[rest].isfinite().all(), "and no other row does"


def test_strided_input(isa: str, levels: Levels) -> None:
    x, layer = (
        torch.randn(3, 66, 5, generator=torch.Generator().manual_seed(4)).transpose(1, 2),
        linear(17, 66),
    )
    assert not x.is_contiguous()
    have = ops.linear_int8(x, *layer.args(), *levels)
    assert_equal_bits(have, ops.linear_int8(x.contiguous(), *layer.args(), *levels), isa)


def test_longest_k(isa: str) -> None:
    x, layer = torch.full((2, MAX_K), -1.0), linear(3, MAX_K)
    x[0] = 1
    have = ops.linear_int8(x, *layer.args(), False)
    assert_equal_bits(have, reference.linear_int8(x, *layer.args(), False), isa)


def test_threads_do_not_change_it(isa: str, levels: Levels, threads: None) -> None:
    x, layer = torch.randn(150, 260, generator=torch.Generator().manual_seed(5)), linear(200, 260)
    torch.set_num_threads(1)
    one = ops.linear_int8(x, *layer.args(), *levels)
    torch.set_num_threads(2)
    assert_equal_bits(ops.linear_int8(x, *layer.args(), *levels), one, isa)


def test_close_to_float(isa: str, levels: Levels) -> None:
    g = torch.Generator().manual_seed(0)
    weight, x = (
        torch.randn(96, 384, generator=g),
        0.4 * torch.randn(64, 384, generator=torch.Generator().manual_seed(6)),  # static scales clip none
    )
    have = ops.linear_int8(x, *linear(96, 384, bias=False).args(), *levels)
    assert_sqnr(have, reference.rotated(x, levels[3]) @ weight.t(), at_least_db=35)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(0, 20),
    n=st.integers(1, 150),
    k=st.integers(1, 200),
    exponent=st.integers(-130, 120),
    offset=st.floats(-10, 10, width=32),
    levels=st.sampled_from([way.levels() for way in ACTIVATIONS.values()]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_linear(
    m: int, n: int, k: int, exponent: int, offset: float, levels: Levels, bias: bool, seed: int
) -> None:
    x = (torch.randn(m, k, generator=torch.Generator().manual_seed(seed)) + offset) * 2.0**exponent
    layer = linear(n, k, bias, seed)
    want = reference.linear_int8(x, *layer.args(), *levels)
    before = kernels.forced()
    assert kernels.runnable()
    try:
        for isa in kernels.runnable():
            kernels.use(isa)
            assert_equal_bits(ops.linear_int8(x, *layer.args(), *levels), want, isa)
    finally:
        kernels.use(before)
