"""Heads turned by position: the reference's bits, in every float type that kernels exchange."""

import pytest
import torch
from torch import Tensor

from operators import rotary as reference
from operators.triton import rotary
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.cuda.samples import random

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def check(device: torch.device, x: Tensor, cos: Tensor, sin: Tensor, *how: int | bool) -> None:
    given = [part.to(device) for part in (x, cos, sin)]
    want = reference.rotary(x, cos, sin, *how)
    assert_equal_bits(rotary(*given, *how).cpu(), want)
    for dtype in FLOATS:  # rounded once, from the float32 of the sum
        wide = reference.rotary(x.float(), cos, sin, *how).to(dtype)
        assert_equal_bits(rotary(*given, *how, dtype=dtype).cpu(), wide)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("size, part", [(2, 2), (7, 6), (8, 4), (33, 32), (64, 64), (64, 0), (100, 98)])
def test_any_head_size(device: torch.device, size: int, part: int, interleaved: bool) -> None:
    x, cos, sin = random(19, 3 * size), random(19, part, seed=1), random(19, part, seed=2)
    for turned in (0, 2, 3):
        check(device, x, cos, sin, size, turned, interleaved)


@pytest.mark.parametrize("angles", FLOATS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_types(device: torch.device, dtype: torch.dtype, angles: torch.dtype) -> None:
    x, cos, sin = random(5, 48).to(dtype), random(5, 8, seed=1).to(angles), random(5, 8, seed=2).to(angles)
    check(device, x, cos, sin, 16, 2)


@pytest.mark.parametrize("batch", [1, 3])
def test_angles_for_each_sequence_or_for_all(device: torch.device, batch: int) -> None:
    check(device, random(3, 21, 64), random(batch, 21, 16, seed=1), random(batch, 21, 16, seed=2), 16, 3)


@pytest.mark.parametrize("rows", [0, 1, 65])
def test_any_number_of_rows(device: torch.device, rows: int) -> None:
    check(device, random(rows, 128), random(rows, 32, seed=1), random(rows, 32, seed=2), 32, 3)


def test_views_and_numbers_that_are_none(device: torch.device) -> None:
    x, cos, sin = random(64, 5).t(), random(5, 32, seed=1)[:, ::2], random(16, 5, seed=2).t()
    check(device, x, cos, sin, 16, 2)
    x = x.contiguous()
    x[0, :4] = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])
    check(device, x, cos, sin, 16, 2)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("size, part", [(7, 6), (8, 4), (33, 0), (64, 64), (100, 98)])
def test_heads_that_are_normalized(device: torch.device, size: int, part: int, interleaved: bool) -> None:
    x, cos, sin = random(19, 3 * size), random(19, part, seed=1), random(19, part, seed=2)
    for turned in (0, 2, 3):
        weight = random(turned * size, seed=3)
        want = reference.rotary(x, cos, sin, size, turned, interleaved, None, weight, 1e-6)
        given = [part.to(device) for part in (x, cos, sin)]
        for dtype, db in ((torch.float32, 130), (torch.float16, 65), (torch.bfloat16, 48)):
            have = rotary(*given, size, turned, interleaved, weight.to(device), 1e-6, dtype=dtype).cpu()
            assert have.dtype == dtype
            assert_sqnr(have.float(), want, db)
            assert_equal_bits(have[:, turned * size :], x[:, turned * size :].to(dtype))


def test_what_the_reference_refuses(device: torch.device) -> None:
    x, cos = torch.zeros(2, 8, device=device), torch.zeros(2, 4, device=device)
    assert_refuses(rotary, "rotary", x.double(), cos, cos, 4, 2)
    assert_refuses(rotary, "rotary", x, cos, cos, 3, 2)
    assert_refuses(rotary, "rotary", x, cos[:1], cos[:1], 4, 2)
    assert_refuses(rotary, "rotary", x, cos, cos, 4, 2, False, cos[0])
