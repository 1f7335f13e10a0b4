"""What a killed process has left beside a place goes when the same is made again; who is still at work is not met."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from operators import own_folder
from operators.own_folder import OLD, making, remove_left

HOLDS = """
import runpy, sys, time
from pathlib import Path
making = runpy.run_path("operators/own_folder.py")["making"]  # without the package, and torch
with making(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    time.sleep(600)
"""


@contextmanager
def another(place: Path) -> Iterator[Path]:
    """A process that makes what is to stand at `place`, killed in the end. → its folder"""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(place)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    try:
        yield Path(process.stdout.readline().strip())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def make(place: Path) -> list[str]:
    """→ what lies beside it then"""
    with making(place) as folder:
        (folder / "made").write_text("whole")
        os.replace(folder / "made", place)
    return sorted(path.name for path in place.parent.iterdir() if path != place)


def aged(folder: Path, seconds: float) -> None:
    at = folder.stat().st_mtime - seconds
    os.utime(folder, (at, at))


def test_what_a_killed_process_left_goes_and_one_that_lives_stays(tmp_path: Path) -> None:
    place = tmp_path / "made"
    with another(place) as living:
        with another(place) as left:
            assert left != living and make(place) == sorted([left.name, living.name])
        assert left.exists() and make(place) == [living.name]
        aged(living, 2 * OLD)
        assert make(place) == [living.name]  # it is still locked
    assert make(place) == []


def test_of_another_machine_only_what_is_old_goes(tmp_path: Path) -> None:
    """Whose locks are not seen here, as of this one before it was started anew"""
    place = tmp_path / "made"
    with another(place) as left:
        pass
    other = left.rename(tmp_path / left.name.replace(left.name[:9], ".00000000"))
    for age, stays in ((0, [other.name]), (OLD - 60, [other.name]), (120, [])):
        aged(other, age)
        assert make(place) == stays


def test_nothing_else_goes(tmp_path: Path) -> None:
    """Neither what is of another place, nor what people call alike"""
    for name in ("other", "made.txt", "mad", "xmade"):
        with another(tmp_path / name):
            pass
    for name in (".made", ".1234-made", ".12345678-made", ".12345678-short-made", "made"):
        (tmp_path / name).mkdir(exist_ok=True)
    before = sorted(tmp_path.iterdir())
    for path in before:
        aged(path, 2 * OLD)
    with making(tmp_path / "made"):
        pass
    assert sorted(tmp_path.iterdir()) == before and len(before) == 9


def test_what_many_places_have_in_common(tmp_path: Path) -> None:
    for name in ("a-1.bin", "a-2.bin", "b-1.bin"):
        with another(tmp_path / name):
            pass
    remove_left(tmp_path, r"a-\d\.bin")
    assert [path.name[-7:] for path in tmp_path.iterdir()] == ["b-1.bin"]
    remove_left(tmp_path / "none", "a")


def test_one_that_is_cleaned_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, met = fcntl.flock, list[Path]()

    def late(lock: int, how: int) -> None:
        if not met:
            met.extend(tmp_path.iterdir())
            remove_left(tmp_path, "made")
            assert not met[0].exists()
        flock(lock, how)

    monkeypatch.setattr(own_folder.fcntl, "flock", late)
    with making(tmp_path / "made") as folder:
        assert folder != met[0] and [*tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.EBADF])
def test_where_there_are_no_locks_only_what_is_old_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def none(lock: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(own_folder.fcntl, "flock", none)
    place = tmp_path / "made"
    with making(place) as living:
        assert make(place) == [living.name]
        aged(living, OLD + 60)
        assert make(place) == []
    assert [*tmp_path.iterdir()] == [place]


def test_where_the_kernel_has_no_name_only_what_is_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "made"
    monkeypatch.setattr(own_folder, "BOOT", tmp_path / "none")
    with another(place) as left:
        pass
    assert make(place) == [left.name]
    aged(left, OLD + 60)
    assert make(place) == []


def test_what_is_raised_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space left"), making(tmp_path / "made") as folder:
        (folder / "half").write_text("half")
        raise OSError("no space left")
    assert not [*tmp_path.iterdir()]
