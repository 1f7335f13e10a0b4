"""A folder of files as one thing: written beside its place, then put there in one step, the old one or the new.

Linux exchanges two folders in one step (renameat2, RENAME_EXCHANGE). Where the file system can't, the old folder is
renamed away and the new one in; killed between the two, the old one lies beside, and `recover` puts it back.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit.checkpoint.errors import CheckpointError
from toolkit.in_place import folder_beside

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)  # no such call, or not on this file system


def replace(place: Path, write: Callable[[Path], None]) -> None:
    """`write` fills an empty folder, which then stands at `place`, in the stead of what stood there.

    Everything is on the disk before it is moved. What `write` raises is raised, and `place` is as it was.
    """
    place = place.resolve()  # a link stays, what it leads to is replaced
    recover(place)
    for old in _beside(place, "replaced") if place.exists() else ():
        shutil.rmtree(old, ignore_errors=True)
    with _new_folder(place) as new:
        write(new)
        for path in sorted(new.rglob("*")):
            _sync(path)
        _sync(new)
        step("written")
        _move(new, place)
    _sync(place.parent)


def require_writable(place: Path) -> None:
    """Raises CheckpointError for a place that `replace` could not write to, or had better not, before anything has
    spent its time."""
    place = place.resolve()
    if place == Path.cwd():  # who stands in it would stand in one that is gone
        raise CheckpointError(f"{place} is the folder that this runs in: give a folder inside it")
    with _new_folder(place):
        if place.is_mount():
            raise CheckpointError(f"{place} is where a disk is mounted, which stays: give a folder inside it")


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
            return  # what stood there is in the new one's stead, and goes
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
def _new_folder(place: Path) -> Iterator[Path]:
    """A new folder on the disk of `place`, with the rights that any new folder gets (what that lies in is made if need
    be); removed in the end, or what was put in its stead."""
    with ExitStack() as stack:
        try:
            new = stack.enter_context(folder_beside(place)) / place.name
            new.mkdir()
        except OSError as error:
            why = f"{place.parent} can't be written to ({error.strerror}): give another folder"
            raise CheckpointError(why) from error
        yield new


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
