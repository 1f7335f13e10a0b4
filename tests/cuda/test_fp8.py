"""The FP8 linear against the one in Python, whose sums are float64."""

import pytest
import torch

from operators import floating
from operators.fp8 import linear_fp8 as reference
from operators.fp8 import quantize_fp8, quantize_weight_fp8
from operators.triton import linear_fp8
from operators.triton.fp8 import Weight
from operators.triton.tiles import LIBRARY, Tile
from tests.checks import assert_sqnr
from tests.cuda.conftest import INTERPRETED
from tests.cuda.samples import SHAPES, activated, bad_rows, random, to

DB = 120 if INTERPRETED else 50  # Hopper keeps about 13 bits of each product when it adds


@pytest.mark.parametrize("m, k, n", SHAPES)
def test_equals_the_reference(device, m, k, n):
    rows, (weight, scale), bias = quantize_fp8(random(m, k)), quantize_weight_fp8(random(n, k, seed=1)), random(n)
    given = to(device, rows), to(device, Weight(weight, scale, bias))
    want = reference(*rows[:2], weight, scale, bias)
    assert_sqnr(linear_fp8(*given, torch.float32, tile=Tile(16, 32, 32)).cpu(), want, DB)
    for gelu in floating.GELUS:
        y = linear_fp8(*given, torch.float32, gelu, Tile(16, 32, 32, split=2)).cpu()
        assert_sqnr(y, activated(want, gelu), DB)


@pytest.mark.parametrize("activation", floating.ACTIVATIONS)
def test_pytorchs_kernel_ends_as_ours(device, activation):
    rows, (weight, scale), bias = quantize_fp8(random(32, 64)), quantize_weight_fp8(random(48, 64, seed=1)), random(48)
    given = to(device, rows), to(device, Weight(weight, scale, bias))
    y = linear_fp8(*given, torch.float32, activation, Tile(kernel=LIBRARY)).cpu()
    assert_sqnr(y, activated(reference(*rows[:2], weight, scale, bias), activation), 45)  # its sums are bfloat16


def test_bad_rows_are_nan(device):
    rows, (weight, scale) = quantize_fp8(bad_rows(64)), quantize_weight_fp8(random(16, 64))
    y = linear_fp8(to(device, rows), to(device, Weight(weight, scale, None)), torch.float32).cpu()
    assert torch.equal(y.isnan().any(1), rows[1].isnan()) and rows[1].isnan().sum() >= 3


def test_reference_rounds_to_what_e4m3_has():
    q, scale, zeros = quantize_fp8(torch.tensor([[448.0, 17.0, 18.0, 19.0, -(2.0**-10), 3 * 2.0**-10, 0.0]]))
    assert q.float().tolist() == [[448, 16, 18, 20, 0, 2.0**-8, 0]] and scale.tolist() == [1.0]
    assert zeros.tolist() == [0]


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        quantize_weight_fp8(torch.tensor([[torch.inf]]))
