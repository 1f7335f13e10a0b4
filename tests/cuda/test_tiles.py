"""The table of tiles: every chip has a tile for every shape, and more exact entries come before the others."""

import pytest

from operators.triton import tiles
from operators.triton.tiles import LIBRARY, Tile, as_entry, choose, is_tuned, nearest

CHIPS = ["sm_80", "sm_89", "sm_90", "sm_120", "interpreter"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_every_shape_has_a_tile(kind, chip):
    for m in (1, 64, 65, 384, 1025, 12_288, 10**7):
        for n, k in ((1, 1), (2304, 768), (1024, 4096)):
            tile = choose(kind, m, n, k, chip)
            powers = (tile.m, tile.n, tile.k)
            assert all(size >= 16 and size & (size - 1) == 0 for size in powers) and tile.k >= 32
            assert tile.warps in (4, 8) and tile.split >= 1


def test_only_int8_is_split():
    """Sums of float32 would be added in another order."""
    for chip in tiles.table()["chips"].values():
        assert all(entry["tile"].get("split", 1) == 1 for entry in chip["fp8"])


@pytest.mark.parametrize("chip, known", [("sm_86", "sm_80"), ("sm_100", "sm_90"), ("sm_121", "sm_120")])
def test_a_chip_that_is_not_listed_has_an_older_ones(chip, known):
    assert nearest(chip) == known
    assert is_tuned(chip) is bool(tiles.table()["chips"][known]["tuned"])


def test_a_chip_that_is_too_old():
    with pytest.raises(ValueError, match="8.0 or newer was wanted; got sm_75"):
        nearest("sm_75")


def test_the_first_entry_that_fits_is_taken(monkeypatch):
    big, library, rest = Tile(m=128), Tile(kernel=LIBRARY), Tile()
    entries = [as_entry(big, n=8, k=16, up_to=20), as_entry(library, n=8, k=16), as_entry(rest)]
    monkeypatch.setattr(tiles, "table", lambda: {"chips": {"sm_90": {"int8": entries, "tuned": "here"}}})
    assert choose("int8", 20, 8, 16, "sm_90") == big
    assert choose("int8", 21, 8, 16, "sm_90") == library
    assert choose("int8", 1, 8, 5, "sm_90") == rest and is_tuned("sm_90")
    entries.pop()
    with pytest.raises(ValueError, match="int8 1x8x5"):
        choose("int8", 1, 8, 5, "sm_90")


@pytest.mark.parametrize(
    "kind, taken, not_taken",
    [("int8", [(17, 24, 64), (32, 8, 8)], [(16, 24, 64), (32, 23, 64), (32, 24, 60)]),
     ("fp8", [(1, 16, 32)], [(0, 16, 32), (1, 15, 32), (1, 16, 24)])],
)  # fmt: skip
def test_the_librarys_kernel_is_left_where_it_takes_no_such_product(monkeypatch, kind, taken, not_taken):
    """An entry is measured from 32 tokens on, and stands for fewer too."""
    library, rest = Tile(kernel=LIBRARY), Tile(m=32)
    entries = [as_entry(library, up_to=64), as_entry(rest)]
    monkeypatch.setattr(tiles, "table", lambda: {"chips": {"sm_90": {kind: entries}}})
    assert [choose(kind, *size, "sm_90") for size in taken] == [library] * len(taken)
    assert [choose(kind, *size, "sm_90") for size in not_taken] == [rest] * len(not_taken)


def test_grid_and_constants():
    tile = Tile(m=64, n=32, k=128, split=3)
    assert tile.grid(65, 33) == (4, 3) and tile.constants(5)["K"] == 5
    assert tile.whole() == Tile(m=64, n=32, k=128)
