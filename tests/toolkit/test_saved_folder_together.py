"""A folder that several processes replace or read at once: none takes what is another's away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolkit.folders import NEW, content_of, write_new
from toolkit.checkpoint import folder


def test_one_that_still_writes_is_not_cleaned_away(tmp_path: Path) -> None:
    def write(new: Path) -> None:
        write_new(new)
        other = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path / "model")], capture_output=True, cwd=Path.cwd(), check=False
        )
        assert other.returncode == 0, other.stderr
        assert new.exists()

    folder.replace(tmp_path / "model", write)
    assert content_of(tmp_path / "model") == NEW


CHILD = """
import sys
from pathlib import Path
from toolkit.checkpoint import folder
folder.replace(Path(sys.argv[1]), lambda new: (new / "other").write_text("other"))
"""


def test_who_comes_second_replaces_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found nothing at the place; the other was done right before this one moved its folder there."""
    place, replace = tmp_path / "model", os.replace

    def late(new: Path, where: Path) -> None:
        if not place.exists():
            subprocess.run([sys.executable, "-c", CHILD, str(place)], cwd=Path.cwd(), check=True)
        replace(new, where)

    monkeypatch.setattr(folder.os, "replace", late)
    folder.replace(place, write_new)
    assert content_of(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_that_is_put_back_by_a_reader_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader finds nothing between the two renames, and takes the writer for killed."""
    place = tmp_path / "model"
    folder.replace(place, lambda new: (new / "c").write_text("old"))
    met: list[str] = []

    def step(what: str) -> None:
        if what == "renamed away" and not met:
            met.append(what)
            assert folder.recover(place)

    monkeypatch.setattr(folder, "step", step)
    monkeypatch.setattr(folder, "exchange", lambda first, second: False)
    folder.replace(place, write_new)
    assert met and content_of(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]
