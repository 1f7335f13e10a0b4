"""A file is written beside its place, whatever else is there or writes to it."""

import os
from pathlib import Path

import pytest

from toolkit.export.files import beside
from toolkit.in_place import replacing


@pytest.mark.parametrize("way", [replacing, beside])
def test_two_that_have_the_same_number_do_not_meet(tmp_path: Path, way) -> None:
    """As processes in two containers may; the last one to end is what stays, and nothing else does."""
    place = tmp_path / "made"
    with way(place) as one, way(place) as other:
        one.write_text("one")
        other.write_text("other")
    assert place.read_text() == "one" and [*tmp_path.iterdir()] == [place]


@pytest.mark.parametrize("left", [Path.touch, Path.mkdir], ids=["a file", "a folder"])
def test_what_a_kill_has_left_is_not_in_the_way(tmp_path: Path, left) -> None:
    left(tmp_path / f".{os.getpid()}-made")
    with replacing(tmp_path / "made") as new:
        new.write_text("whole")
    assert (tmp_path / "made").read_text() == "whole"
