"""Rows of floats → levels: the reference's numbers, bit for bit, whatever comes."""

import pytest
import torch
from triton.compiler.errors import CompilationError
from triton.runtime.errors import InterpreterError

from operators import floating, reference
from operators.fp8 import quantize_fp8
from operators.triton import gelu_parts, quantize, scale_parts
from operators.triton.int8 import linear_int8_parts
from operators.triton.levels import FP8, Levels
from operators.triton.tiles import Tile
from operators.validate import ROTATIONS
from tests.activations import ACTIVATIONS, DYNAMIC, STATIC
from tests.checks import assert_equal_bits, assert_sqnr
from tests.cuda.samples import activated, bad_rows, floats, random, same_levels, same_rows, signed, stepped, to, weight

TILE = Tile(16, 32, 32)
# erf is the C library's or the GPU's own, and the GPU joins a product and a sum in one rounding
GELU_DB = 120


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (5, 33), (2, 1500), (0, 8)], ids=str)
def test_quantize(device, shape, how):
    x, levels = random(*shape), ACTIVATIONS[how].levels()
    same_rows(quantize(x.to(device), Levels.of(*levels)), reference.quantize_per_token(x, *levels))


@pytest.mark.parametrize("columns", [1, 100, 384, 1500])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_blocks_of_every_size(device, rotation, columns):
    """what is left after the last whole one stays as it is, and infinities and NaN stay in their rows"""
    x = torch.cat([bad_rows(max(2, columns))[:, :columns], random(3, columns, seed=1)])
    rows = quantize(x.to(device), Levels.of(False, rotation=rotation))
    same_rows(rows, reference.quantize_per_token(x, False, rotation=rotation))


def test_a_rotation_that_the_kernels_lack_is_refused():
    with pytest.raises(ValueError, match="rotation of symmetric must be in .*; got 256; "):
        Levels.of(True, rotation=256)
    with pytest.raises(ValueError, match="rotation of fp8 must be in .*; got 16; "):
        Levels(FP8, rotation=16)


@pytest.mark.parametrize("how", ACTIVATIONS)
def test_bad_rows_are_nan_and_leave_the_others_alone(device, how):
    x, levels = bad_rows(40), ACTIVATIONS[how].levels()
    rows = quantize(x.to(device), Levels.of(*levels))
    same_rows(rows, reference.quantize_per_token(x, *levels))
    assert rows[1][1:4].isnan().all() and rows[1][[0, 4, 5, 7, 8]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_floats_of_16_bits(device, dtype):
    x = random(4, 21).to(dtype)
    same_rows(quantize(x.to(device), Levels.of(False)), reference.quantize_per_token(x.float(), False))


@pytest.mark.parametrize("how", {**DYNAMIC, **STATIC})
def test_ties_go_to_even(device, how):
    """halves of the scale's steps, with the scale 1 where it is each row's own"""
    symmetric, fixed, zero, _ = ACTIVATIONS[how].levels()
    x = (torch.arange(-254, 255) / 2)[None] * (fixed or 1.0)
    x[0, 0], x[0, -1] = (-127, 127) if symmetric else (-127, 128)
    rows = quantize(x.to(device), Levels.of(symmetric, fixed, zero))
    same_rows(rows, reference.quantize_per_token(x, symmetric, fixed, zero))


def test_fp8(device):
    spread = torch.logspace(-7, 2, 4096)
    x = torch.cat([bad_rows(4096), torch.linspace(-448, 448, 4096)[None], (random(1, 4096) * spread).clamp(-448, 448)])
    x[-1, 0] = 448
    q, scale, zeros = (part.cpu() for part in quantize(x.to(device), Levels(FP8)))
    want = quantize_fp8(x)
    assert torch.equal(q.float(), want[0].float())
    assert_equal_bits(scale, want[1])
    assert torch.equal(zeros, want[2]) and scale[1:4].isnan().all()


@pytest.mark.parametrize("gelu", floating.GELUS)
@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize("shifted", [True, False], ids=["asymmetric", "symmetric"])
def test_sums_become_floats_and_rows(device, shifted, split, gelu):
    rows, layer = reference.quantize_per_token(random(19, 150), not shifted), weight(37, 150, shifted)
    tile = Tile(16, 32, 32, split=split)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), tile)
    assert parts.sums.shape == (split, 19, 37)
    assert_sqnr(scale_parts(parts, torch.float32).cpu(), floats(rows, layer), GELU_DB)
    want = activated(floats(rows, layer), gelu)
    assert_sqnr(scale_parts(parts, torch.float32, gelu).cpu(), want, GELU_DB)
    assert scale_parts(parts, torch.float16).dtype == torch.float16
    for how in ACTIVATIONS.values():
        q, scale, _ = gelu_parts(parts, Levels.of(*how.levels()), gelu)
        expected = reference.quantize_per_token(want, *how.levels())
        assert (q.cpu().int() + 128 - expected[0].int()).abs().max() <= 1
        assert_sqnr(scale.cpu(), expected[1], GELU_DB)
        same_levels(q, reference.quantize_per_token(stepped(floats(rows, layer), gelu), *how.levels())[0])


@pytest.mark.parametrize("gelu", floating.GELUS)
def test_gelu_far_out(device, gelu):
    """What is far below 0 is nothing, not NaN, and what is far above is itself, also where its cube is too large."""
    bias = torch.tensor([0.0, -1e-30, 6.0, -6.0, 100.0, -100.0, 1e30, -1e30, torch.nan])
    rows, layer = reference.quantize_per_token(torch.zeros(1, 1), True), weight(len(bias), 1, False)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer._replace(bias=bias)))
    have, want = scale_parts(parts, torch.float32, gelu).cpu(), activated(bias[None], gelu)
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_an_activation_that_no_kernel_has_is_refused(device):
    rows, layer = reference.quantize_per_token(random(2, 8), True), weight(4, 8, False)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer))
    with pytest.raises((InterpreterError, CompilationError)):
        scale_parts(parts, torch.float32, "relu")
