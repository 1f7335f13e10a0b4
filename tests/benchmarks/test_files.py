"""Result files: whole or not there, and a place that can't be written is said in one line, before the work."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.files import in_place, require_places, write
from models.errors import InputError


def test_a_file_is_written_with_its_folder_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    require_places(path)
    assert list(path.parent.iterdir()) == []
    write(path, "é")
    assert path.read_bytes() == "é".encode() and list(path.parent.iterdir()) == [path]


def test_a_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    in_place(tmp_path / "made", lambda beside: save_file({"a": torch.zeros(1)}, beside))
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_fails_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, "old")

    def broken(beside: Path) -> None:
        beside.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        in_place(path, broken)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Who may rename into /dev would else be without its /dev/null."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for attempt in (lambda: write(path, ""), lambda: require_places(path)):
        with pytest.raises(InputError, match="can't be written .it is there, and no file.: give another place"):
            attempt()
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path / ("long" * 80)):
        for attempt in (lambda path=path: write(path, ""), lambda path=path: require_places(path)):
            with pytest.raises(InputError, match="can't be written .*: give another place"):
                attempt()
