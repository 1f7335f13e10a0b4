"""Gated feed-forwards: floats and levels of the reference, by themselves and on the sums of a linear layer."""

from itertools import product

import pytest
import torch
from torch import Tensor

from operators import gate as reference
from operators import reference as rows_reference
from operators.fp8 import quantize_fp8
from operators.triton import gate, gate_rows, linear_int8_parts
from operators.triton.levels import FP8, Levels
from operators.triton.tiles import Tile
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.cuda.samples import bad_rows, floats, random, same_levels, signed, stepped, to, weight

GATES = [*product(reference.ACTIVATIONS, (False, True))]
DB = 120  # erf and exp are the GPU's own


def by_steps(x: Tensor, activation: str, second: bool) -> Tensor:
    """x float32 → what the kernel's steps make of it, each rounded to float32"""
    halves = x.chunk(2, -1)
    half, other = halves[::-1] if second else halves
    return stepped(half, activation) * other


@pytest.mark.parametrize("how", GATES, ids=str)
@pytest.mark.parametrize("shape", [(1, 2), (3, 34), (2, 5, 200), (2, 3000), (0, 8)], ids=str)
def test_floats(device: torch.device, shape: tuple[int, ...], how: tuple[str, bool]) -> None:
    x = random(*shape)
    have = gate(x.to(device), *how).cpu()
    assert have.dtype == torch.float32
    assert_sqnr(have, reference.gate(x, *how), DB)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bits_are_computed_in_float32(device: torch.device, dtype: torch.dtype) -> None:
    x = random(7, 66).to(dtype)
    for how in GATES:
        wide = gate(x.float().to(device), *how).cpu()
        assert_equal_bits(gate(x.to(device), *how).cpu(), wide.to(dtype))
        assert_equal_bits(gate(x.to(device), *how, torch.float32).cpu(), wide)


@pytest.mark.parametrize("how", GATES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rows(device: torch.device, name: str, how: tuple[str, bool]) -> None:
    """of floats that hold what is no number, too"""
    levels, x = ACTIVATIONS[name].levels(), torch.cat([bad_rows(100), random(4, 100, seed=1)])
    rows = gate_rows(x.to(device), Levels.of(*levels), *how)
    want = rows_reference.quantize_per_token(by_steps(x, *how), *levels)
    assert torch.equal(rows[1].cpu().isnan(), want[1].isnan()) and want[1][1:4].isnan().all()
    same_levels(rows[0], want[0])
    good = want[1].isfinite()
    assert_sqnr(rows[1].cpu()[good], want[1][good], DB)


@pytest.mark.parametrize("how", GATES, ids=str)
@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize("shifted", [True, False], ids=["asymmetric", "symmetric"])
def test_on_the_sums_of_a_linear_layer(device: torch.device, shifted: bool, split: int, how: tuple[str, bool]) -> None:
    rows, layer = rows_reference.quantize_per_token(random(19, 150), not shifted), weight(74, 150, shifted)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), Tile(16, 32, 32, split=split))
    y = floats(rows, layer)
    for name in ACTIVATIONS.values():
        levels = name.levels()
        have = gate_rows(parts, Levels.of(*levels), *how)
        want = rows_reference.quantize_per_token(reference.gated(y, *how), *levels)
        assert (have[0].cpu().int() + 128 - want[0].int()).abs().max() <= 1
        assert_sqnr(have[1].cpu(), want[1], DB)
        same_levels(have[0], rows_reference.quantize_per_token(by_steps(y, *how), *levels)[0])


def test_fp8(device: torch.device) -> None:
    x = random(5, 200)
    q, scale, zeros = (part.cpu() for part in gate_rows(x.to(device), Levels(FP8), "silu", False))
    want = quantize_fp8(by_steps(x, "silu", False))
    assert_sqnr(q.float(), want[0].float(), 60)
    assert_sqnr(scale, want[1], DB)
    assert torch.equal(zeros, want[2])


@pytest.mark.parametrize("columns", [0, 7])
def test_halves_of_one_width_are_wanted(device: torch.device, columns: int) -> None:
    with pytest.raises(ValueError, match="two halves of one width; got"):
        gate(torch.zeros(2, columns, device=device), "silu", False)


def test_rows_that_are_views(device: torch.device) -> None:
    x = random(40, 12).t()
    assert_equal_bits(gate(x.to(device), "silu", False), gate(x.contiguous().to(device), "silu", False))
    made = (gate_rows(one.to(device), Levels.of(True), "silu", False) for one in (x, x.contiguous()))
    assert all(torch.equal(have, want) for have, want in zip(*made, strict=True))
