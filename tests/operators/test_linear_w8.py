"""linear_w8: every float kernel with int8 weights against float64, with the bounds of test_linear_float."""

import pytest
import torch
from torch import Tensor

from operators import float_kernels, floating, kernels, weight_only
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.operators.forcing import each_kernel
from tests.operators.samples import ops
from tests.operators.test_memory import at_edge

FP32_DB, FEW_DB = 120, 90  # the last: of a single number, terms may have cancelled each other
kernels.load()
kernel = each_kernel(float_kernels)


def sample(m: int, n: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x float32 [m, k], packed weight of [n, k], scale and bias float32 [n]"""
    g = torch.Generator().manual_seed(1000 * m + 10 * n + k)
    weight = torch.randint(-127, 128, (n, k), generator=g, dtype=torch.int8)
    scale = torch.rand(n, generator=g) + 0.1
    return torch.randn(m, k, generator=g), ops.pack_weight_w8(weight), scale, torch.randn(n, generator=g)


@pytest.mark.parametrize("n, k", [(1, 1), (64, 2), (65, 3), (130, 33)])
def test_packing(n: int, k: int) -> None:
    weight = torch.randint(-128, 128, (n, k), dtype=torch.int8)
    packed = ops.pack_weight_w8(weight)
    assert_equal_bits(weight_only.unpack_weight_w8(packed, n).contiguous(), weight)
    assert packed.count_nonzero() == weight.count_nonzero(), "the rest is zeros"


@pytest.mark.parametrize("k", [1, 2, 3, 255, 257, 1030])
def test_remainders(kernel: str, k: int) -> None:
    for n in (1, 15, 16, 17, 33, 63, 64, 65, 127, 129):
        x, packed, scale, bias = sample(17, n, k)
        want = weight_only.linear_w8(x, packed, scale, bias, "none")
        for m in range(1, 18):
            least = FP32_DB if m * n > 30 else FEW_DB
            assert_sqnr(ops.linear_w8(x[:m], packed, scale, bias, "none"), want[:m], at_least_db=least)


@pytest.mark.parametrize("activation", floating.ACTIVATIONS)
@pytest.mark.parametrize("m, n, k", [(1, 70, 4096), (50, 70, 4096), (101, 130, 66)])
def test_sizes(kernel: str, m: int, n: int, k: int, activation: str) -> None:
    x, packed, scale, bias = sample(m, n, k)
    want = weight_only.linear_w8(x, packed, scale, bias, activation)
    assert_sqnr(ops.linear_w8(x, packed, scale, bias, activation), want, at_least_db=FP32_DB)


def test_the_extremes_are_exact(kernel: str) -> None:
    weight = torch.tensor([[-128], [-127], [-1], [0], [127]], dtype=torch.int8)
    have = ops.linear_w8(torch.tensor([[1.5], [-2.0]]), ops.pack_weight_w8(weight), torch.full((5,), 0.5), None, "none")
    assert_equal_bits(have, torch.tensor([[1.5], [-2.0]]) * weight.float()[:, 0] * 0.5 + 0.0)


@pytest.mark.parametrize("k", [1, 5, 384])
def test_bfloat16_in_and_out(kernel: str, k: int) -> None:
    x, packed, scale, bias = sample(13, 70, k)
    x = x.bfloat16()
    have, wide = (ops.linear_w8(given, packed, scale, bias, "none") for given in (x, x.float()))
    assert_equal_bits(have, wide.bfloat16(), "the same sums, rounded once, to nearest even")


@pytest.mark.parametrize("shape", [(33,), (2, 3, 33), (0, 33), (2, 0, 33)], ids=str)
def test_shapes_strides_no_bias(kernel: str, shape: tuple[int, ...]) -> None:
    x, (_, packed, scale, _) = torch.randn(shape), sample(1, 70, 33)
    have = ops.linear_w8(x, packed, scale, None, "none")
    assert have.shape == (*shape[:-1], 70)
    assert_sqnr(have, weight_only.linear_w8(x, packed, scale, None, "none"), at_least_db=FP32_DB)
    strided = torch.stack([x, x], dim=-1)[..., 0]
    assert_equal_bits(ops.linear_w8(strided, packed, scale, None, "none"), have)
    assert ops.linear_w8(x, packed[:0], scale[:0], None, "none").shape == (*shape[:-1], 0)


def test_threads_and_rows_do_not_change_it(kernel: str, threads: None) -> None:
    x, packed, scale, bias = sample(150, 200, 600)
    torch.set_num_threads(1)
    one = ops.linear_w8(x, packed, scale, bias, "gelu")
    torch.set_num_threads(2)
    assert_equal_bits(ops.linear_w8(x, packed, scale, bias, "gelu"), one)
    assert_equal_bits(ops.linear_w8(x[7:9], packed, scale, bias, "gelu"), one[7:9], "nor the company of other rows")


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 3, 5), (13, 67, 66), (2, 130, 31)])
def test_memory(kernel: str, m: int, n: int, k: int) -> None:
    x, packed, scale, bias = sample(m, n, k)
    have = ops.linear_w8(at_edge(x), at_edge(packed), at_edge(scale), at_edge(bias), "gelu")
    assert_equal_bits(have, ops.linear_w8(x, packed, scale, bias, "gelu"))


X, PACKED, SCALE, BIAS = sample(4, 70, 33)
BAD: dict[str, tuple[str, tuple]] = {
    "pack floats": ("pack_weight_w8", (X,)),
    "pack 1 dimension": ("pack_weight_w8", (PACKED[0, 0],)),
    "pack no columns": ("pack_weight_w8", (PACKED[0, :, :0],)),
    "half": ("linear_w8", (X.half(), PACKED, SCALE, BIAS, "none")),
    "no columns": ("linear_w8", (X[..., :0], PACKED, SCALE, BIAS, "none")),
    "another K": ("linear_w8", (X[..., :32], PACKED, SCALE, BIAS, "none")),
    "another N": ("linear_w8", (X, PACKED, torch.ones(129), None, "none")),
    "unpacked": ("linear_w8", (X, PACKED[0], SCALE, BIAS, "none")),
    "packed to float": ("linear_w8", (X, PACKED.float(), SCALE, BIAS, "none")),
    "double scales": ("linear_w8", (X, PACKED, SCALE.double(), BIAS, "none")),
    "a scale of no dimension": ("linear_w8", (X, PACKED, SCALE[0], BIAS, "none")),
    "short bias": ("linear_w8", (X, PACKED, SCALE, BIAS[1:], "none")),
    "another activation": ("linear_w8", (X, PACKED, SCALE, BIAS, "relu")),
}


@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str) -> None:
    name, args = BAD[case]
    assert_refuses(getattr(ops if through == "kernels" else weight_only, name), name, *args)
