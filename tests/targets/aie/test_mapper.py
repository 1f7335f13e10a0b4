"""The mapper keeps within the memories, and finds the tiles that people found by trying on the hardware."""

from dataclasses import replace

import pytest

from targets.aie.cycles import Gemm, Tile, cost
from targets.aie.devices import BUILT_IN, XDNA, XDNA2, Multiply
from targets.aie.mapper import best, chunk_of, common, l1_bytes, l2_bytes, possible, refusal
from targets.aie.measured import POINTS
from targets.base import UsageError

GEMMS = [point for point in POINTS if point.tops is not None]
BERT = [Gemm(384, 1024, 3072), Gemm(384, 1024, 1024), Gemm(384, 1024, 4096), Gemm(384, 4096, 1024)]


@pytest.mark.parametrize("point", GEMMS, ids=str)
def test_as_good_as_the_papers_tiles(point):
    device = BUILT_IN[point.device]
    assert refusal(device, point.tile, point.gemm.out, point.gemm.dtype) is None
    found, theirs = best(device, point.gemm, device.queued), cost(device, point.gemm, point.tile, device.queued)
    assert found.seconds <= theirs.seconds
    assert theirs.seconds < 1.05 * found.seconds, "the paper's tile is the best that was measured"


def test_finds_most_of_the_papers_tiles_themselves():
    found = [best(BUILT_IN[point.device], point.gemm).tile == point.tile for point in GEMMS]
    assert sum(found) >= 6


@pytest.mark.parametrize("out", ["int32", "int16", "int8"])
@pytest.mark.parametrize("device", BUILT_IN.values(), ids=list(BUILT_IN))
def test_every_tile_fits(device, out):
    tiles = possible(device, out)
    assert len(tiles) > 500 and len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert 2 * tile.m * tile.k + 2 * tile.k * tile.n + tile.m * tile.n * {"int32": 4, "int16": 2, "int8": 1}[out] \
            == l1_bytes(tile, out) <= 63 * 1024  # fmt: skip
        assert tile.m % 16 == tile.n % 16 == tile.k % 8 == 0
        assert l2_bytes(device, tile, chunk_of(device, tile, 4096, out), out) <= 512 * 1024


def test_a_chunk_divides_k_and_fits_l2():
    for tile, k in [(Tile(96, 64, 64), 1024), (Tile(96, 64, 64), 4096), (Tile(48, 64, 48), 384), (Tile(16, 56, 16), 9)]:
        chunk = chunk_of(XDNA2, tile, k, "int32")
        passes = -(-k // tile.k)
        assert chunk % tile.k == 0 and passes * tile.k % chunk == 0
        assert l2_bytes(XDNA2, tile, chunk, "int32") <= XDNA2.l2


def test_the_best_is_no_worse_than_any():
    gemm = Gemm(200, 700, 900)
    found = best(XDNA, gemm)
    assert all(found.seconds <= cost(XDNA, gemm, tile).seconds for tile in possible(XDNA, "int32"))


def test_one_design_serves_all_linears_of_a_model():
    costs = common(XDNA2, BERT * 3)
    assert len(costs) == 12 and len({one.tile for one in costs}) == 1
    assert [one.gemm for one in costs] == BERT * 3
    own = [best(XDNA2, gemm) for gemm in BERT]
    together = sum(one.seconds for one in costs)
    assert together >= 3 * sum(one.seconds for one in own)
    for one in own:
        assert together <= 3 * sum(cost(XDNA2, gemm, one.tile).seconds for gemm in BERT)


def test_refuses_two_types_in_one_design():
    with pytest.raises(UsageError, match="multiplies one type; got 2"):
        common(XDNA, [Gemm(1, 2, 3, "int32"), Gemm(1, 2, 3, "int8")])


def test_a_device_without_room_has_no_tile():
    with pytest.raises(UsageError, match="device xdna: no tile fits L1 of 1000 bytes"):
        best(replace(XDNA, l1_used=1000), Gemm(1, 2, 3))


@pytest.mark.parametrize(
    "tile, why",
    [
        (Tile(8, 64, 16), "m must be a multiple of 16; got 8"),
        (Tile(16, 60, 16), "k must be a multiple of 8; got 60"),
        (Tile(16, 64, 0), "n must be a multiple of 16; got 0"),
        (Tile(16, 48, 16), "k must be at least 56; got 48"),
        (Tile(1040, 56, 16), "longer than a DMA descriptor counts"),
        (Tile(128, 128, 128), "L1 holds 64512 bytes; the tiles take 131072"),
    ],
    ids=str,
)
def test_says_why_a_tile_is_not_possible(tile, why):
    assert why in (refusal(XDNA2, tile, "int32") or "")


def test_a_tile_is_whole_native_blocks_of_any_device():
    odd = replace(XDNA2, types={"int8": Multiply((12, 8, 24), 512)})
    for tile in possible(odd, "int32"):
        assert (tile.m % 48, tile.k % 8, tile.n % 48) == (0, 0, 0)
    assert "m must be a multiple of 48; got 16" in (refusal(odd, Tile(16, 64, 48), "int32") or "")


def test_l2_is_a_limit_too():
    assert "L2 holds 1000 bytes" in (refusal(replace(XDNA2, l2=1000), Tile(16, 64, 16), "int32") or "")
