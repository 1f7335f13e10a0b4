"""The passes before and after smoothing, killed and gone on with: the same to the bit, and nothing left behind."""

import errno
import os
import sys
import time
from functools import cache

import pytest
import torch

from benchmarks.outliers import plant
from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits
from toolkit import Recipe
from toolkit.calibrate import state, stream
from toolkit.calibrate.place import OLD
from toolkit.equalize.observe import _Watcher
from toolkit.integers import find_rounding
from toolkit.pipeline import captured, quantized
from toolkit.sensitivity import Variants

BATCHES = 4
RECIPES = {"dynamic": Recipe("int"), "static": Recipe("int", scheme="static")}
PASSES = [("dynamic", 1), ("dynamic", 2), ("static", 1), ("static", 2), ("static", 3)]


class Killed(Exception):
    """Stands for the end of a process."""


class Kill:
    """Told of the batches of every pass, it ends the run after so many of one pass; told: all that it was told."""

    def __init__(self, number: int = 0, after: int = 0) -> None:
        self.number, self.after = number, after
        self.told: list[list[int]] = []

    def __call__(self, done: int) -> None:
        if not self.told or done != self.told[-1][-1] + 1:
            self.told.append([])
        self.told[-1].append(done)
        if (len(self.told), done) == (self.number, self.after):
            raise Killed


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Fewer than there are tokens, so that which of them are drawn counts."""
    monkeypatch.setattr(sys.modules[_Watcher.__module__], "SAMPLE", 40)


@pytest.fixture
def seen(monkeypatch):
    """→ the batches that went through the graph in the passes of equalize"""
    found, see = [], _Watcher.see

    def counted(self, batch):
        found.append(batch)
        see(self, batch)

    monkeypatch.setattr(_Watcher, "see", counted)
    return found


@pytest.fixture
def always(monkeypatch):
    """The state is written after every batch."""
    monkeypatch.setattr(stream, "SECONDS", 0)
    monkeypatch.setattr(stream, "SHARE", 0)


@cache
def model_and_data():
    model = tiny.build("bert")
    batches = [tiny.inputs(model, 3, 20, seed) for seed in range(BATCHES)]
    plant(model, batches[0], outliers=2)
    return model, batches


def made(scheme="dynamic", data=None, folder=None, progress=None):
    """→ the integers, scales and biases of all linears, by name"""
    model, batches = model_and_data()
    graph = quantized(model, RECIPES[scheme], data or batches, folder, progress)
    linears = {name: one for name, one in graph.named_modules() if isinstance(one, QuantizedLinear)}
    parts = {f"{n}.{part}": getattr(one, part) for n, one in linears.items() for part in ("weight", "scale", "bias")}
    return parts, {name: one.activation for name, one in linears.items()}


@cache
def whole(scheme):
    return made(scheme)


def assert_same(found, expected):
    assert found[1] == expected[1] and found[0].keys() == expected[0].keys() and len(found[1]) == 12
    for name, tensor in expected[0].items():
        assert_equal_bits(found[0][name], tensor, name)


def kill(folder, scheme="dynamic", number=2, after=3):
    with pytest.raises(Killed):
        made(scheme, folder=folder, progress=Kill(number, after))


@pytest.mark.parametrize("after", [1, 3, BATCHES])
@pytest.mark.parametrize(("scheme", "number"), PASSES)
def test_killed_and_gone_on(scheme, number, after, tmp_path, seen, always):
    """The kill comes before the state with the last batch is written."""
    expected = whole(scheme)
    kill(tmp_path, scheme, number, after)
    seen.clear()
    progress = Kill()
    assert_same(made(scheme, folder=tmp_path, progress=progress), expected)
    passes = 2 if scheme == "dynamic" else 3
    first = [BATCHES] * (number - 1) + [after - 1] + [0] * (passes - number)  # batch of each pass
    assert progress.told == [list(range(start, BATCHES + 1)) for start in first]
    assert len(seen) == sum(BATCHES - start for start in first[:2])
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["calibration"] * (passes - 2)


def test_killed_again_and_again(tmp_path, seen, always):
    expected = whole("dynamic")
    for number, after in ((1, 2), (1, 3), (2, 1), (2, 4)):
        kill(tmp_path, "dynamic", number, after)
    seen.clear()
    assert_same(made(folder=tmp_path), expected)
    assert len(seen) == 1


def test_passes_of_seconds_write_nothing(tmp_path):
    kill(tmp_path)
    assert not list(tmp_path.iterdir())
    assert_same(made(folder=tmp_path), whole("dynamic"))
    assert not list(tmp_path.iterdir())


def test_a_large_state_is_written_more_rarely(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "SECONDS", 0)
    monkeypatch.setattr(stream, "SPEED", 1)  # byte a second
    kill(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None])
def test_a_damaged_file_is_said_and_made_anew(damage, tmp_path, caplog, seen, always):
    expected = whole("dynamic")
    kill(tmp_path)
    first, second = sorted((path / "state.safetensors" for path in tmp_path.iterdir()), key=lambda p: p.stat().st_mtime)
    second.write_bytes(second.read_bytes()[:-9] if damage is None else damage)
    seen.clear()
    assert_same(made(folder=tmp_path), expected)
    assert [record.getMessage().partition(" can't be read")[0] for record in caplog.records] == [str(second)]
    assert "begins anew" in caplog.text and len(seen) == BATCHES
    assert not list(tmp_path.iterdir())


def test_another_runs_file_is_said_and_made_anew(tmp_path, caplog, seen, always):
    expected = whole("dynamic")
    mine, others = tmp_path / "mine", tmp_path / "others"
    kill(mine, number=1, after=3)
    with pytest.raises(Killed):
        made(data=model_and_data()[1][:2], folder=others, progress=Kill(1, 2))
    (own,), (other,) = mine.iterdir(), others.iterdir()
    (other / "state.safetensors").replace(own / "state.safetensors")
    seen.clear()
    assert_same(made(folder=mine), expected)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "is of another model or other data: calibration begins anew" in said and len(seen) == 2 * BATCHES


def test_other_data_begin_anew_and_leave_a_run_that_may_go_on(tmp_path, seen, always):
    data = model_and_data()[1][1:]
    expected = made(data=data)
    kill(tmp_path, number=1, after=3)
    before = list(tmp_path.iterdir())
    seen.clear()
    assert_same(made(data=data, folder=tmp_path), expected)
    assert len(seen) == 2 * len(data) and list(tmp_path.iterdir()) == before
    seen.clear()
    assert_same(made(folder=tmp_path), whole("dynamic"))
    assert len(seen) == 2 * BATCHES - 2 and not list(tmp_path.iterdir())


def test_what_nobody_went_on_with_is_removed_in_the_end(tmp_path, always):
    kill(tmp_path, number=1)
    (left,) = tmp_path.iterdir()
    data = model_and_data()[1][1:]
    for age, stays in ((OLD - 60, [left]), (OLD + 60, [])):
        os.utime(left, (time.time() - age,) * 2)
        made(data=data, folder=tmp_path)
        assert list(tmp_path.iterdir()) == stays


def test_what_a_kill_in_the_midst_of_writing_left_is_removed(tmp_path, seen, always):
    kill(tmp_path)
    states = list(tmp_path.iterdir())
    for path in states:
        (path / ".tmpXYZ").write_bytes(b"half")
    seen.clear()
    with pytest.raises(Killed):
        made(folder=tmp_path, progress=Kill(2, BATCHES))
    assert [[path.name for path in one.iterdir()] for one in states] == [["state.safetensors"]] * 2
    assert len(seen) == BATCHES - 2
    made(folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_once_for_each_pass_and_nothing_is_lost(tmp_path, monkeypatch, caplog, always):
    expected = whole("dynamic")

    def full(tensors, place, metadata):
        place.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))

    monkeypatch.setattr(state, "save_tensors", full)
    assert_same(made(folder=tmp_path), expected)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all("can't be written (No space left on device)" in line for line in said)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_said(tmp_path, caplog, always):
    expected = whole("dynamic")
    (tmp_path / "file").touch()
    assert_same(made(folder=tmp_path / "file" / "cache"), expected)
    assert "can't be written (Not a directory)" in caplog.text


def test_rounding_that_is_left_with_a_model_goes_on_too(tmp_path, seen, always):
    model, batches = model_and_data()

    def found(folder=None, progress=None):
        return find_rounding(captured(model, "int"), RECIPES["dynamic"], batches, {}, folder, progress).linears

    expected = found()
    with pytest.raises(Killed):
        found(tmp_path, Kill(1, 3))
    seen.clear()
    again = found(tmp_path)
    assert len(seen) == BATCHES - 2 and again.keys() == expected.keys() and len(again) == 12
    for key, one in expected.items():
        for part in ("weight", "scale", "shift"):
            assert torch.equal(getattr(again[key], part), getattr(one, part))
    assert not list(tmp_path.iterdir())


def test_what_sensitivity_learns_goes_on_too(tmp_path, seen, always):
    model, batches = model_and_data()

    def variants(progress=None):
        graph = captured(model, "int")
        return Variants.of(graph, RECIPES["dynamic"], "cpu", "bf16", batches, tmp_path, progress)

    with pytest.raises(Killed):
        variants(Kill(2, 3))
    seen.clear()
    assert len(variants().prepared.equalized.moments) == 12 and len(seen) == BATCHES - 2
    assert not list(tmp_path.iterdir())


def test_passes_that_others_run_are_told_of():
    told: list[int] = []
    data = model_and_data()[1]
    for _ in range(2):
        assert len(list(stream.Told(data, told.append))) == BATCHES
    assert told == [*range(BATCHES + 1)] * 2
