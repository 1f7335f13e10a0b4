"""The tuning script: what it times is right, and what it writes is a table; times are made up."""

import json

import pytest
import torch

from benchmarks import tune_cuda
from benchmarks.tune_cuda_work import work
from operators.triton import tiles
from operators.triton.tiles import LIBRARY, Tile
from tests.cuda.conftest import INTERPRETED


@pytest.mark.parametrize(
    "kind, tile",
    [
        ("int8", Tile(32, 64, 64)),
        ("int8", Tile(32, 64, 64, split=2)),
        ("int8", Tile(kernel=LIBRARY)),
        ("fp8", Tile(32, 64, 64)),
    ],
    ids=["int8", "int8 in parts", "int8 library", "fp8"],
)
def test_work_is_the_product(device, kind, tile):
    run, correct = work(kind, 40, 32, 96, tile, device.type)
    assert run().shape == (40, 32) and run().dtype == torch.float16
    assert correct(40) is True


def test_library_takes_what_fits():
    assert work("int8", 40, 33, 96, Tile(kernel=LIBRARY), "cpu") is None
    assert work("fp8", 40, 32, 90, Tile(kernel=LIBRARY), "cpu") is None


def test_best_joins_neighbours_and_skips_what_fails():
    small, big, wrong = Tile(m=32), Tile(m=128), Tile(m=64)
    times = {(small, 32): 1.0, (small, 64): 1.0, (small, 512): 9.0, (big, 32): 2.0, (big, 64): 2.0, (big, 512): 3.0}
    entries = tune_cuda.best(
        "int8", 8, 4, [wrong, small, big], lambda kind, m, n, k, tile: times.get((tile, m)), (32, 64, 128, 512)
    )
    assert entries == [
        {"up_to": 64, "n": 8, "k": 4, "tile": {"m": 32}},
        {"n": 8, "k": 4, "tile": {"m": 128}},
    ]
    assert tune_cuda.best("int8", 8, 4, [wrong], lambda *args: None, (32,)) == []


def test_the_table_is_written_and_read_again(monkeypatch):
    entry = {"n": 8, "k": 4, "tile": {"m": 32}}
    table = tune_cuda.merged(tiles.table(), "sm_100", {"int8": [entry]}, "a GPU")
    again = json.loads(tune_cuda.as_text(table))
    assert again == table and again["chips"].keys() == tiles.table()["chips"].keys() | {"sm_100"}
    monkeypatch.setattr(tiles, "table", lambda: again)
    assert tiles.choose("int8", 5, 8, 4, "sm_100") == Tile(m=32) and tiles.is_tuned("sm_100")
    assert tiles.choose("fp8", 5, 8, 4, "sm_100") == tiles.choose("fp8", 5, 8, 4, "sm_90")


def test_candidates_are_distinct_and_fit():
    for kind in ("int8", "fp8"):
        found = tune_cuda.candidates(kind)
        assert len(set(found)) == len(found) > 20
        assert kind == "int8" or all(tile.split == 1 for tile in found)


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU to tune for")
def test_without_a_gpu_it_says_so():
    from click.testing import CliRunner

    done = CliRunner().invoke(tune_cuda.main, [])
    assert done.exit_code == 1 and "tiles are measured on a GPU" in done.output
