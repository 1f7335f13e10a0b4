"""The array's integers: the fast form on ten thousand random shapes, the walk through the tiles with the same bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from operators import kernels
from targets.aie.cycles import Gemm, Tile
from targets.aie.devices import XDNA, XDNA2
from targets.aie.emulate import Output, fast, walk
from targets.aie.mapper import best
from targets.aie.srs import ROUNDING, SATURATION, srs

DEVICES = {"xdna": XDNA, "xdna2": XDNA2}
OUTPUTS = {
    "int32": Output(),
    "int16": Output("int16", 6, "symmetric_inf"),
    "int8": Output("int8", 11, "conv_even", "symmetric"),
    "int32 shifted": Output("int32", 3, "floor", "none"),
}
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 270), st.integers(1, 140))


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    kernels.load()


def operands(m: int, k: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bytes, among them both extremes"""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(-128, 128, (m, k), dtype=torch.int8, generator=generator)
    w = torch.randint(-128, 128, (n, k), dtype=torch.int8, generator=generator)
    if seed % 3 == 0:
        q, w = torch.where(q < 0, -128, 127).to(torch.int8), torch.where(w < 0, -128, 127).to(torch.int8)
    return q, w


def exact(q: Tensor, w: Tensor) -> Tensor:
    """float64 holds every partial sum exactly"""
    return (q.double() @ w.double().t()).to(torch.int32)


def by_fast(q: Tensor, w: Tensor, output: Output = OUTPUTS["int32"]) -> Tensor:
    return fast(q, torch.ops.opswap.pack_weight(w), w.sum(1, dtype=torch.int32), output)


@settings(max_examples=100, deadline=None)
@given(shapes=st.lists(SIZES, min_size=100, max_size=100), seed=st.integers(0, 2**31))
def test_fast_equals_exact_integers_on_ten_thousand_shapes(shapes, seed):
    for m, k, n in shapes:
        q, w = operands(m, k, n, seed)
        assert torch.equal(by_fast(q, w), exact(q, w)), (m, k, n)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=15, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**31))
def test_the_walk_has_the_same_bits(device, sizes, seed):
    q, w = operands(*sizes, seed)
    tile = best(DEVICES[device], Gemm(sizes[0], sizes[1], sizes[2])).tile
    assert torch.equal(walk(q, w, DEVICES[device], tile), exact(q, w))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("device", DEVICES)
def test_narrow_outputs_are_the_same_in_both_forms(device, output):
    q, w = operands(70, 200, 150, seed=4)
    got = walk(q, w, DEVICES[device], Tile(16, 56, 32), OUTPUTS[output])
    assert torch.equal(got, by_fast(q, w, OUTPUTS[output]))
    wanted = OUTPUTS[output]
    assert torch.equal(got, srs(exact(q, w), wanted.shift, wanted.out, wanted.rounding, wanted.saturation))


@pytest.mark.parametrize("tile", [Tile(16, 56, 16), Tile(32, 64, 48), Tile(96, 64, 96), Tile(48, 280, 48)], ids=str)
def test_every_tile_gives_the_same_sums(tile):
    """Several rounds of the array, several passes over K, none of the sizes a whole tile"""
    q, w = operands(tile.m * 4 + 3, tile.k * 2 + 5, tile.n * 8 + 1, seed=1)
    assert torch.equal(walk(q, w, XDNA2, tile), exact(q, w))


def test_the_longest_sums_are_exact():
    q, w = operands(2, 66_311, 3, seed=0)
    q[0], w[0] = -128, -127
    w[1:] = w[1:].clamp(min=-127)
    assert torch.equal(by_fast(q, w.clamp(min=-127)), exact(q, w.clamp(min=-127)))


def test_an_output_of_sums_needs_no_srs():
    assert Output().exact
    for rounding in ROUNDING:
        assert Output(rounding=rounding).exact and not Output(shift=1, rounding=rounding).exact
    assert [Output(saturation=mode).exact for mode in SATURATION] == [True, True, False]


@pytest.mark.parametrize(
    "q, w, tile, line",
    [
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int8), Tile(16, 56, 16), "must be int8; got torch.float32"),
        (torch.zeros(2, 3, dtype=torch.int8), torch.zeros(2, 4, dtype=torch.int8), Tile(16, 56, 16), "share K"),
        (torch.zeros(2, 3, dtype=torch.int8), torch.zeros(2, 3, dtype=torch.int8), Tile(16, 60, 16), "multiple of 8"),
        (torch.zeros(2, 3, dtype=torch.int8), torch.zeros(2, 3, dtype=torch.int8), Tile(160, 160, 160), "L1 holds"),
    ],
    ids=["float", "K", "no native block", "too large"],
)
def test_refuses(q, w, tile, line):
    with pytest.raises(ValueError, match=line):
        walk(q, w, XDNA, tile)
