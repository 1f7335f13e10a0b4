"""The INT8 linear: integers equal to the reference's at awkward sizes and extremes, then their floats and levels."""

import pytest
import torch

from operators import floating, reference
from operators.triton import linear_int8, linear_int8_levels, linear_int8_parts
from operators.triton.int8 import Weight
from operators.triton.levels import Levels
from operators.triton.tiles import LIBRARY, Tile
from tests.activations import DYNAMIC, STATIC
from tests.checks import assert_sqnr
from tests.cuda.samples import (
    SHAPES,
    activated,
    bad_rows,
    floats,
    random,
    same_levels,
    same_rows,
    signed,
    stepped,
    sums,
    to,
    weight,
)  # fmt: skip

TILES = {"one part": Tile(16, 32, 32, group=2), "three parts": Tile(16, 32, 32, split=3, group=1)}
DB = 120  # scaling: the GPU may round a product and a sum once


def total(parts) -> torch.Tensor:
    """the sums with the zero point put right"""
    found = parts.sums.sum(0, dtype=torch.int32)
    return (found - parts.zero_point[:, None] * parts.weight_sum).cpu() if parts.shifted else found.cpu()


@pytest.mark.parametrize("how", DYNAMIC)
@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_integers_equal_the_reference(device, tile, m, k, n, how):
    rows = reference.quantize_per_token(random(m, k), how == "symmetric")
    layer = weight(n, k, how != "symmetric")
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), TILES[tile])
    assert torch.equal(total(parts), sums(rows, layer))


@pytest.mark.parametrize("tile", [*TILES.values(), Tile(kernel=LIBRARY)], ids=[*TILES, LIBRARY])
def test_extremes_do_not_saturate(device, tile):
    k = 1024
    signs = torch.tensor([1, 1, -1, 1]).repeat(k // 4)
    q = (torch.stack([torch.ones(k), -torch.ones(k), signs])[torch.arange(24) % 3] * 127).to(torch.int8)
    rows = (q - (q < 0).to(torch.int8), torch.ones(24), torch.full((24,), -128, dtype=torch.int32))
    layer = Weight(q[:16], torch.ones(16), q[:16].sum(1, dtype=torch.int32), None, True)
    parts = linear_int8_parts(to(device, rows), to(device, layer), tile)
    assert torch.equal(total(parts), (rows[0].int() + 128) @ q[:16].int().t())


def test_library_gives_the_same_sums(device):
    rows, layer = reference.quantize_per_token(random(32, 64), False), weight(24, 64, True)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), Tile(kernel=LIBRARY))
    assert parts.sums.shape == (1, 32, 24) and torch.equal(total(parts), sums(rows, layer))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("how", DYNAMIC)
def test_floats(device, how, bias):
    rows, layer = (
        reference.quantize_per_token(bad_rows(77), how == "symmetric"),
        weight(35, 77, how != "symmetric", bias),
    )
    given, want = (to(device, signed(rows)), to(device, layer)), floats(rows, layer)
    good = want.isfinite().all(1)
    y = linear_int8(*given, torch.float32, tile=TILES["one part"]).cpu()
    assert torch.equal(y.isnan(), want.isnan()) and good.sum() > 4
    assert_sqnr(y[good], want[good], DB)
    for gelu in floating.GELUS:
        y = linear_int8(*given, torch.float32, gelu, TILES["one part"]).cpu()
        assert_sqnr(y[good], activated(want[good], gelu), DB)
    assert linear_int8(*given, torch.bfloat16, tile=TILES["one part"]).dtype == torch.bfloat16


@pytest.mark.parametrize("activation", floating.ACTIVATIONS)
@pytest.mark.parametrize("made", STATIC)
def test_levels_by_a_scale_that_is_given(device, made, activation):
    rows, layer = reference.quantize_per_token(bad_rows(77)[:6], False), weight(35, 77, True)
    levels, y = STATIC[made].levels(), floats(rows, layer)
    have = linear_int8_levels(
        to(device, signed(rows)), to(device, layer), Levels.of(*levels), activation, TILES["three parts"]
    )
    same_levels(have[0], reference.quantize_per_token(stepped(y, activation), *levels)[0])
    want = reference.quantize_per_token(activated(y, activation), *levels)
    assert (have[0].cpu().int() + 128 - want[0].int()).abs().max() <= 1
    same_rows((signed(want)[0], *have[1:]), want)
    assert want[1].isnan().sum() == 3


def test_levels_want_a_scale():
    with pytest.raises(ValueError, match="wants a scale that is given"):
        linear_int8_levels((torch.empty(1, 1),) * 3, weight(1, 1, True), Levels.of(True), "gelu")
    with pytest.raises(ValueError, match="rotates no rows; got 16"):
        linear_int8_levels((torch.empty(1, 1),) * 3, weight(1, 1, True), Levels.of(True, 0.1, rotation=16), "gelu")


def test_no_rows(device):
    rows, layer = to(device, signed(reference.quantize_per_token(random(0, 8), True))), to(device, weight(4, 8, False))
    assert linear_int8(rows, layer, torch.float32).shape == (0, 4)
    assert linear_int8_parts(rows, layer).sums.shape[1:] == (0, 4)
