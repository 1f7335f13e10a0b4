"""How exported files come to stand there: weights beside them, and what stood there before."""

import os
from pathlib import Path

import pytest

from tests import tiny
from tests.toolkit.exporting import DYNAMIC, STATIC, assert_same, exported, graph_of
from toolkit import checkpoint
from toolkit.export import ExportError, onnx_file
from toolkit.export.files import beside
from toolkit.onnx_session import open_session


def test_weights_beside_the_file_come_and_go_with_it(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "bert.onnx"
    found = []
    for recipe in (DYNAMIC, STATIC):
        with beside(place) as new:
            onnx_file.write(checkpoint.copied(graph_of("bert", recipe)), new, {}, largest=0)
        found.append(sorted(path.name for path in place.parent.iterdir()))
        assert_same(graph_of("bert", recipe), open_session(place, threads=1), tiny.build("bert"), recipe)
    assert [len(names) for names in found] == [2, 2] and found[0] != found[1]  # the first one's weights are gone
    assert place.stat().st_size < exported("bert", STATIC)[0].stat().st_size


def test_another_kind_of_file_leaves_the_weights_beside_alone(tmp_path: Path) -> None:
    with beside(tmp_path / "model.onnx") as new:
        onnx_file.write(checkpoint.copied(graph_of("bert", STATIC)), new, {}, largest=0)
    there = {path.name for path in tmp_path.iterdir()}
    with beside(tmp_path / "model.pt2") as new:
        new.write_text("another model, or the same")
    assert {path.name for path in tmp_path.iterdir()} == {*there, "model.pt2"}


def test_what_goes_wrong_leaves_what_stood_there(tmp_path: Path) -> None:
    place = tmp_path / "model.onnx"
    place.write_text("old")
    with pytest.raises(ZeroDivisionError), beside(place) as new:
        new.write_text("new")
        raise ZeroDivisionError
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]
    with pytest.raises(ExportError, match="is a folder: give the name of a file"), beside(tmp_path):
        pass
    with pytest.raises(ExportError, match="can't be written to"), beside(place / "below" / "model.onnx"):
        pass


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Who may rename into /dev would else be without its /dev/null."""
    place = tmp_path / "pipe"
    os.mkfifo(place)
    with pytest.raises(ExportError, match="it is there, and no file"), beside(place) as new:
        new.write_text("new")
    assert place.is_fifo() and list(tmp_path.iterdir()) == [place]
