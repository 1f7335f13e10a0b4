"""What `python -m benchmarks.footprint` measures; its figures: benchmarks/README.md."""

import pytest
import torch
from click.testing import CliRunner

from benchmarks.footprint import WAYS, alone, main, measure, row_of, write_folders
from benchmarks.inputs import SHAPES
from models.errors import InputError
from toolkit.validate import memory

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """→ (folder, batch) of a small model, written in float and in 8 bits"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "small", {**SMALL, "vocab_size": 1100})
        folder = tmp_path_factory.mktemp("footprint")
        return folder, write_folders("small", folder)


def test_each_way_is_measured(small):
    found = {way: measure(way, *small, threads=1) for way in WAYS}
    fp, made, loaded = found.values()
    assert loaded["weights"] <= made["weights"] < fp["weights"]
    for one in found.values():
        assert one["seconds"] > 0 and one["memory"] >= 0


def test_both_ways_to_8_bits_give_the_same(small):
    folder, batch = small
    with torch.inference_mode():
        made, loaded = (WAYS[way](folder)(**batch) for way in list(WAYS)[1:])
    assert torch.equal(made.start_logits, loaded.start_logits)


def test_a_way_runs_in_a_process_of_its_own(small):
    assert alone("PyTorch fp32", *small, threads=1)["seconds"] > 0


def test_a_row_holds_medians():
    runs = [{"weights": 1.0, "memory": memory, "seconds": 0.5} for memory in (9.0, 3.0, 5.0)]
    assert row_of("a way", runs) == ("a way", "1", "5", "0.50")


def test_a_system_that_does_not_say_is_one_line(small, monkeypatch):
    monkeypatch.setattr(memory, "STATUS", small[0] / "none")
    with pytest.raises(InputError, match="does not say how much memory"):
        measure("PyTorch fp32", *small, threads=1)


def test_no_process_is_refused():
    assert CliRunner().invoke(main, ["--repeat", "0"]).exit_code == 2
