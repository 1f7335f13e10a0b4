"""The FP8 reference of the GPU's kernels: its numbers by E4M3's bit patterns, its sums, and what it refuses."""

import pytest
import torch

from operators.e4m3 import CHIPS, decode, encode
from operators.fp8 import LARGEST, linear_fp8, quantize_fp8, quantize_weight_fp8
from tests.checks import assert_equal_bits

OCP = CHIPS["gaudi3"]


def numbers(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 3


def test_rows_are_e4m3_by_their_own_largest_value() -> None:
    x = torch.cat([numbers(5, 33, 0), torch.zeros(1, 33), numbers(1, 33, 1) * 1e-40])
    q, scale, zeros = quantize_fp8(x)
    assert LARGEST == 448 and not zeros.any() and zeros.dtype == torch.int32
    assert torch.equal(scale[:5], x[:5].abs().amax(1) / 448) and scale[5:].tolist() == [1, 1]
    assert torch.equal(q.view(torch.uint8), encode(x * scale.reciprocal()[:, None], OCP))
    assert q[:5].float().abs().amax(1).tolist() == [448] * 5


def test_a_row_that_is_not_finite_has_no_scale() -> None:
    x = numbers(3, 8, 2)
    x[0, 1], x[2, 5] = torch.inf, torch.nan
    q, scale, _ = quantize_fp8(x)
    assert scale.isnan().tolist() == [True, False, True] and not q[0].float().any()
    y = linear_fp8(q, scale, *quantize_weight_fp8(numbers(4, 8, 3)), None)
    assert y.isnan().all(1).tolist() == [True, False, True]


def test_the_linear_is_the_product_of_the_numbers() -> None:
    rows, (weight, weight_scale), bias = (
        quantize_fp8(numbers(7, 40, 4)),
        quantize_weight_fp8(numbers(9, 40, 5)),
        numbers(1, 9, 6)[0],
    )
    q, scale, _ = rows
    left, right = (decode(part.view(torch.uint8), OCP, dtype=torch.float64) for part in (q, weight))
    want = ((left @ right.t()) * (scale[:, None] * weight_scale)).float() + bias
    assert_equal_bits(linear_fp8(q, scale, weight, weight_scale, bias), want)


@pytest.mark.parametrize(("weight", "said"), [
    (torch.tensor([[1.0, torch.inf]]), "weights must be finite"),
    (torch.ones(2, 2, dtype=torch.int32), "weight must be floating point with 2 dimensions"),
    (torch.ones(3), "weight must be floating point with 2 dimensions"),
])  # fmt: skip
def test_what_is_no_weight_is_refused(weight: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=f"quantize_weight_fp8: {said}"):
        quantize_weight_fp8(weight)
