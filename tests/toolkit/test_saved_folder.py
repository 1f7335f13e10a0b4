"""A folder is replaced as one thing: a process that is ended at any step leaves the old one or the new one."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.checkpoint import folder

NEW = {"a": b"new a", "b": b"new b" * 1000}
OLD = {"a": b"old a", "c": b"old c"}
KILLED = 9


def _write(place: Path) -> None:
    for name, content in NEW.items():
        (place / name).write_bytes(content[: len(content) // 2])
        folder.step("half of a file")
        (place / name).write_bytes(content)
        folder.step("a file")


def _content(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def _replace_in_a_child(place: Path, end_at: int, by_exchange: bool) -> bool:
    """Replaces `place` in a process that ends itself, without any cleaning up, at step `end_at`. → whether it ended
    before it was done"""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            count = 0

            def step(what: str) -> None:
                nonlocal count
                count += 1
                if count == end_at:
                    os._exit(KILLED)

            folder.step = step  # type: ignore[assignment]
            if not by_exchange:
                folder.exchange = lambda first, second: False  # type: ignore[assignment]
            folder.replace(place, _write)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED)
    return code == KILLED


@pytest.mark.parametrize("by_exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("old", [OLD, None], ids=["over an old one", "first"])
def test_ended_at_any_step_the_old_or_the_new_one_is_there(tmp_path: Path, old: dict | None, by_exchange: bool) -> None:
    seen, step, ended = set(), 0, True
    while ended:
        step += 1
        place = tmp_path / str(step) / "model"
        place.parent.mkdir()
        if old is not None:
            place.mkdir()
            for name, content in old.items():
                (place / name).write_bytes(content)
        ended = _replace_in_a_child(place, step, by_exchange)
        folder.recover(place)  # as loading does
        found = _content(place) if place.exists() else None
        assert found in (old, NEW), f"step {step}: {found}"
        seen.add("new" if found == NEW else "old")
        folder.replace(place, _write)  # and the next one finds its way, and cleans up
        assert _content(place) == NEW
        assert [path.name for path in place.parent.iterdir()] == ["model"]
    assert step > 5 and seen == {"old", "new"}


def test_the_exchange_is_one_step_here(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert folder.exchange(tmp_path / "first", tmp_path / "second")
    assert (tmp_path / "first" / "second").exists() and (tmp_path / "second" / "first").exists()


def test_what_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "model"
    folder.replace(place, _write)

    def fail(new: Path) -> None:
        (new / "half").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        folder.replace(place, fail)
    assert _content(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_that_still_writes_is_not_cleaned_away(tmp_path: Path) -> None:
    def write(new: Path) -> None:
        _write(new)
        other = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path / "model")], capture_output=True, cwd=Path.cwd(), check=False
        )
        assert other.returncode == 0, other.stderr
        assert new.exists()

    folder.replace(tmp_path / "model", write)
    assert _content(tmp_path / "model") == NEW


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
    folder.replace(place, _write)
    assert _content(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


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
    folder.replace(place, _write)
    assert met and _content(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_new_folder_that_is_cleaned_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, met = fcntl.flock, []

    def late(lock: int, how: int) -> None:
        if not met:
            met.extend(path for path in tmp_path.iterdir() if ".saving-" in path.name)
            folder._remove_unless_locked(met[0])
        flock(lock, how)

    monkeypatch.setattr(folder.fcntl, "flock", late)
    folder.replace(tmp_path / "model", _write)
    assert met and _content(tmp_path / "model") == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folder.replace(tmp_path / "link", _write)
    assert (tmp_path / "link").is_symlink() and _content(tmp_path / "real") == NEW


LOOP = """
import sys
from pathlib import Path
from toolkit.checkpoint import folder

def write(new, content):
    for name in "abcd":
        (new / name).write_bytes(content * 100_000)

number = 0
while True:
    number += 1
    folder.replace(Path(sys.argv[1]), lambda new: write(new, b"%08d" % number))
    print(number, flush=True)
"""


def test_killed_while_it_replaces_over_and_over_all_files_are_of_one(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for wait in (0.001, 0.013, 0.029):
        process = subprocess.Popen([sys.executable, "-c", LOOP, str(place)], stdout=subprocess.PIPE, cwd=Path.cwd())
        assert process.stdout is not None and process.stdout.readline()  # it has written one
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        folder.recover(place)
        files = _content(place)
        assert sorted(files) == list("abcd") and len(set(files.values())) == 1
        assert all(len(content) == 800_000 for content in files.values())
