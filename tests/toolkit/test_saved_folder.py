"""A folder is replaced as one thing: a process that is ended at any step leaves the old one or the new one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.toolkit.folders import NEW, content_of, write_new
from toolkit.checkpoint import folder

OLD = {"a": b"old a", "c": b"old c"}
KILLED = 9


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
            folder.replace(place, write_new)
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
        found = content_of(place) if place.exists() else None
        assert found in (old, NEW), f"step {step}: {found}"
        seen.add("new" if found == NEW else "old")
        folder.replace(place, write_new)  # and the next one finds its way, and cleans up
        assert content_of(place) == NEW
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
    folder.replace(place, write_new)

    def fail(new: Path) -> None:
        (new / "half").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        folder.replace(place, fail)
    assert content_of(place) == NEW and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_it_has_the_rights_that_any_new_folder_gets(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    folder.replace(tmp_path / "model", write_new)
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folder.replace(tmp_path / "link", write_new)
    assert (tmp_path / "link").is_symlink() and content_of(tmp_path / "real") == NEW


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
        files = content_of(place)
        assert sorted(files) == list("abcd") and len(set(files.values())) == 1
        assert all(len(content) == 800_000 for content in files.values())
