"""A file is written beside its place, whatever else is there or writes to it."""

import os
from pathlib import Path

import pytest

from toolkit.in_place import replacing


def test_two_that_have_the_same_number_do_not_meet(tmp_path: Path) -> None:
    """As processes in two containers may; the last one to end is what stays, and nothing else does."""
    place = tmp_path / "made"
    with replacing(place) as one, replacing(place) as other:
        one.write_text("one")
        other.write_text("other")
    assert place.read_text() == "one" and [*tmp_path.iterdir()] == [place]


@pytest.mark.parametrize("left", [Path.touch, Path.mkdir], ids=["a file", "a folder"])
def test_what_a_kill_has_left_is_not_in_the_way(tmp_path: Path, left) -> None:
    left(tmp_path / f".{os.getpid()}-made")
    with replacing(tmp_path / "made") as beside:
        beside.write_text("whole")
    assert (tmp_path / "made").read_text() == "whole"


def test_what_is_raised_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "made"
    place.write_text("old")
    with pytest.raises(RuntimeError), replacing(place) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert place.read_text() == "old" and [*tmp_path.iterdir()] == [place]
