"""A folder of files as one thing: written beside its place, then put there in one step, the old one or the new.

Linux exchanges two folders in one step (renameat2, RENAME_EXCHANGE). Where the file system can't, the old folder is
renamed away and the new one in; killed between the two, the old one lies beside, and `recover` puts it back.
"""

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.checkpoint.errors import CheckpointError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)  # no such call, or not on this file system


def replace(place: Path, write: Callable[[Path], None]) -> None:
    """`write` fills an empty folder, which then stands at `place`, in the stead of what stood there.

    Everything is on the disk before it is moved. What `write` raises is raised, and `place` is as it was.
    """
    place = place.resolve()  # a link stays, what it leads to is replaced
    recover(place)
    for left in _beside(place, "saving"):
        _remove_unless_locked(left)
    for old in _beside(place, "replaced") if place.exists() else ():
        shutil.rmtree(old, ignore_errors=True)
    with _locked_folder(place) as new:
        write(new)
        for path in sorted(new.rglob("*")):
            _sync(path)
        _sync(new)
        step("written")
        _move(new, place)
    _sync(place.parent)


def require_writable(place: Path) -> None:
    """Raises CheckpointError for a place that `replace` could not write to, before anything has spent its time."""
    with _locked_folder(place.resolve()):
        pass


def recover(place: Path) -> bool:
    """Puts back the folder that a killed `replace` had renamed away. → whether there was one"""
    place = place.resolve()
    if place.exists():
        return False
    for old in _beside(place, "replaced"):
        os.rename(old, place)
        return True
    return False


def step(what: str) -> None:
    """Called between any two changes on the disk; tests end the process here."""


def _move(new: Path, place: Path) -> None:
    """→ `new` stands at `place`; what stood there is gone, what another process puts there meanwhile too"""
    away = place.with_name(f".{place.name}.replaced-{os.getpid()}")
    while not _moved_in(new, place):
        if exchange(new, place):
            step("exchanged")
            shutil.rmtree(new)
            return
        os.rename(place, away)
        step("renamed away")
    step("renamed in")
    shutil.rmtree(away, ignore_errors=True)


def _moved_in(new: Path, place: Path) -> bool:
    """Moves it in one step where nothing stands, or an empty folder. → whether it did"""
    try:
        os.replace(new, place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def exchange(first: Path, second: Path) -> bool:
    """Each folder stands where the other stood, in one step; False where the system or its file system can't."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, f"{os.strerror(code)}: exchanging two folders", str(second))


@contextmanager
def _locked_folder(place: Path) -> Iterator[Path]:
    """A new folder beside `place` (what both lie in is made if need be), locked while this process lives; removed in
    the end if it still lies there."""
    new = place.with_name(f".{place.name}.saving-{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(new)
    except OSError as error:
        raise CheckpointError(f"{place.parent} can't be written to ({error.strerror}): give another folder") from error
    try:
        yield new
    finally:
        os.close(lock)
        shutil.rmtree(new, ignore_errors=True)


def _locked(new: Path) -> int:
    """Makes the folder, and again if another process took it for a killed one's before it was locked. → the lock"""
    while True:
        new.mkdir()
        try:
            lock = os.open(new, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if new.exists():
            return lock
        os.close(lock)


def _remove_unless_locked(left: Path) -> None:
    """Removes what a killed process left; one that still writes holds its lock."""
    try:
        lock = os.open(left, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def _beside(place: Path, what: str) -> list[Path]:
    start = f".{place.name}.{what}-"
    return (
        sorted(path for path in place.parent.iterdir() if path.name.startswith(start)) if place.parent.is_dir() else []
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
