"""What killed passes leave: used, said where it can't be, and removed in the end."""

import errno
import os
import resource
import signal
import time
from types import SimpleNamespace

import pytest
import torch

from operators.own_folder import OLD
from tests.toolkit.killing import BATCHES, Kill, Killed, assert_same, kill, made, model_and_data, whole
from toolkit.calibrate import state, stream
from toolkit.calibrate.place import Place

pytestmark = pytest.mark.usefixtures("few_rows")


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
        left_by_a_kill(path / "state.safetensors")
    seen.clear()
    with pytest.raises(Killed):
        made(folder=tmp_path, progress=Kill(2, BATCHES))
    assert [[path.name for path in one.iterdir()] for one in states] == [["state.safetensors"]] * 2
    assert len(seen) == BATCHES - 2
    made(folder=tmp_path)
    assert not list(tmp_path.iterdir())


def left_by_a_kill(path):
    """In the midst of writing a file of 40 kB: → what is there then, and not `path`"""
    kept, before = {"a": torch.zeros(10_000)}, {*path.parent.iterdir()}
    child = os.fork()
    if child == 0:  # ended by the system
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))
        try:
            state.save(Place(path, "", True), SimpleNamespace(state=lambda: kept), state.Counts())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGXFSZ
    (left,) = {*path.parent.iterdir()} - before
    assert left != path
    return left


def test_what_a_kill_left_half_written_of_ranges_is_removed(tmp_path):
    """Of other data too; what another machine does stays, until it is old."""
    left = left_by_a_kill(tmp_path / f"calibration-{'0' * 32}.safetensors")
    other = tmp_path / f".00000000-{left.name[10:]}"
    other.mkdir()
    (tmp_path / ".1-others.safetensors").touch()
    for age, stays in ((OLD - 60, [other]), (OLD + 60, [])):
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() - age,) * 2)
        made("static", folder=tmp_path)
        assert sorted(tmp_path.glob(".*")) == sorted([*stays, tmp_path / ".1-others.safetensors"])


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
