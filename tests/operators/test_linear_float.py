"""linear_float: every float kernel against float64, with the same roundings of the operands.

Bounds: a float32 chain of n terms errs by about 2^-25 * sqrt(n / 3) of its result, random signs; the kernels' chains
have at most 256 steps and the chunks' sums are added in turn, which leaves 128 dB and more at K = 4096. Small results
of large terms are no matter here: each comparison is of a whole matrix of random numbers.
"""

import pytest
import torch
from torch import Tensor

from operators import float_kernels, floating, kernels
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.forcing import each_kernel
from tests.operators.samples import ops
from tests.operators.test_memory import at_edge

FP32_DB, BF16_DB, ROUNDED_DB = 120, 100, 50  # the last: a result that is rounded to 8 bits has 54 dB and more
COLUMNS = (1, 2, 15, 16, 17, 31, 33, 48, 63, 64, 65, 79, 80, 81, 127, 128, 129)


kernel = each_kernel(float_kernels)


@pytest.fixture(params=[False, True], ids=["float32 weights", "bfloat16 weights"])
def bf16(request: pytest.FixtureRequest) -> bool:
    return request.param


def sample(m: int, n: int, k: int, bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
    """x float32 [m, k], packed weight of [n, k], bias float32 [n]"""
    g = torch.Generator().manual_seed(1000 * m + 10 * n + k)
    weight = torch.randn(n, k, generator=g)
    return torch.randn(m, k, generator=g), ops.pack_weight_float(weight, bf16), torch.randn(n, generator=g)


def bound(bf16: bool) -> int:
    return BF16_DB if bf16 else FP32_DB


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("n, k", [(1, 1), (64, 2), (65, 3), (130, 33)])
def test_packing(n: int, k: int, bf16: bool) -> None:
    weight = torch.randn(n, k)
    packed = ops.pack_weight_float(weight, bf16)
    unpacked = floating.unpack_weight_float(packed, n, k).contiguous()
    assert_equal_bits(unpacked, weight.bfloat16() if bf16 else weight)
    assert packed.count_nonzero() == unpacked.count_nonzero(), "the rest is zeros"


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 255, 257, 1030])
def test_remainders(kernel: str, bf16: bool, k: int) -> None:
    for n in COLUMNS:
        x, packed, bias = sample(14, n, k, bf16)
        want = floating.linear_float(x, packed, bias, n, "none")
        for m in range(1, 15):
            have = ops.linear_float(x[:m], packed, bias, n, "none")
            assert_sqnr(have, want[:m], at_least_db=bound(bf16))


@pytest.mark.parametrize("activation", floating.ACTIVATIONS)
@pytest.mark.parametrize("m, n, k", [(50, 70, 4096), (101, 130, 66), (7, 64, 384)])
def test_sizes(kernel: str, bf16: bool, m: int, n: int, k: int, activation: str) -> None:
    x, packed, bias = sample(m, n, k, bf16)
    have = ops.linear_float(x, packed, bias, n, activation)
    assert_sqnr(have, floating.linear_float(x, packed, bias, n, activation), at_least_db=bound(bf16))


def test_against_pytorch(kernel: str) -> None:
    g = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=g) for size in ((33, 300), (100, 300), (100,)))
    have = ops.linear_float(x, ops.pack_weight_float(weight, False), bias, 100, "none")
    assert_sqnr(have, torch.nn.functional.linear(x.double(), weight.double(), bias.double()), at_least_db=FP32_DB)


@pytest.mark.parametrize("k", [1, 2, 5, 384])
def test_bfloat16_in_and_out(kernel: str, bf16: bool, k: int) -> None:
    x, packed, bias = sample(13, 70, k, bf16)
    x = x.bfloat16()
    have, wide = ops.linear_float(x, packed, bias, 70, "none"), ops.linear_float(x.float(), packed, bias, 70, "none")
    assert_equal_bits(have, wide.bfloat16(), "the same sums, rounded once, to nearest even")
    assert_sqnr(have, floating.linear_float(x.float(), packed, bias, 70, "none"), at_least_db=ROUNDED_DB)


def test_rounding_of_rows(kernel: str) -> None:
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3e38, 2**-120, -0.0])
    have = ops.linear_float(ties[:, None], ops.pack_weight_float(torch.ones(1, 1), True), None, 1, "none")
    assert torch.equal(have, ties.bfloat16().float()[:, None])


@pytest.mark.parametrize("activation, kind", floating.GELUS.items())
def test_gelu(kernel: str, activation: str, kind: str) -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e30, 1e30, torch.inf, torch.nan])])[:, None]
    have = ops.linear_float(x, ops.pack_weight_float(torch.ones(1, 1), False), None, 1, activation)
    want = torch.nn.functional.gelu(x.double(), approximate=kind)
    assert (have[:-4] - want[:-4]).abs().max() < 2e-6
    assert_equal_bits(have[-4:-1, 0], torch.tensor([-0.0, 1e30, torch.inf]))
    assert have[-1].isnan()


def test_not_finite(kernel: str, bf16: bool) -> None:
    x, packed, bias = sample(5, 20, 40, bf16)
    x[1, 3], x[2, 0], x[3, 39] = torch.nan, torch.inf, -torch.inf
    have = ops.linear_float(x, packed, bias, 20, "none")
    assert have[1].isnan().all() and not have[2:4].isfinite().any() and have[[0, 4]].isfinite().all()


@pytest.mark.parametrize("shape", [(33,), (2, 3, 33), (0, 33), (2, 0, 33)], ids=str)
def test_shapes_strides_no_bias(kernel: str, bf16: bool, shape: tuple[int, ...]) -> None:
    x, (_, packed, _) = torch.randn(shape), sample(1, 70, 33, bf16)
    have = ops.linear_float(x, packed, None, 70, "none")
    assert have.shape == (*shape[:-1], 70)
    assert_sqnr(have, floating.linear_float(x, packed, None, 70, "none"), at_least_db=bound(bf16))
    strided = torch.stack([x, x], dim=-1)[..., 0]
    assert_equal_bits(ops.linear_float(strided, packed, None, 70, "none"), have)
    assert ops.linear_float(x, packed[:0], None, 0, "none").shape == (*shape[:-1], 0)


def test_threads_and_rows_do_not_change_it(kernel: str, bf16: bool, threads: None) -> None:
    x, packed, bias = sample(150, 200, 600, bf16)
    torch.set_num_threads(1)
    one = ops.linear_float(x, packed, bias, 200, "gelu")
    torch.set_num_threads(2)
    assert_equal_bits(ops.linear_float(x, packed, bias, 200, "gelu"), one)
    assert_equal_bits(ops.linear_float(x[7:9], packed, bias, 200, "gelu"), one[7:9], "nor the company of other rows")


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 3, 5), (13, 67, 66), (2, 130, 31)])
def test_memory(kernel: str, bf16: bool, m: int, n: int, k: int) -> None:
    x, packed, bias = sample(m, n, k, bf16)
    have = ops.linear_float(at_edge(x), at_edge(packed), at_edge(bias), n, "gelu")
    assert_equal_bits(have, ops.linear_float(x, packed, bias, n, "gelu"))


def test_the_kernels_that_go_with_those_in_use() -> None:
    before = kernels.forced()
    try:
        for isa, want in {"avxvnni": "avx2", "avx2": "avx2", "portable": "portable"}.items():
            if isa in kernels.runnable():
                kernels.use(isa)
                assert float_kernels.used() == want
    finally:
        kernels.use(before)
    with pytest.raises(ValueError, match="there is no such kernel; name one of .*portable"):
        float_kernels.use("abacus")
