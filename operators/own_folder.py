"""A folder for what is being made, beside the place where it is to stand. A kill leaves it, and whoever makes the same
next removes it.

Its lock says that its process lives: to all processes of this kernel, in other containers too, and to nobody else, as
file systems don't carry the locks of folders to other machines. So its name says which kernel knows of the lock. What
another machine has left, or this one before it was started anew, goes when it is old.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OLD = 7 * 24 * 3600  # seconds without a new file, after which nobody is at work any more
BOOT = Path("/proc/sys/kernel/random/boot_id")  # another for each start of a machine
NOWHERE = "00000000"


@contextmanager
def making(place: Path) -> Iterator[Path]:
    """→ a folder that no other process has, on the disk of `place`; in the end it is gone with all that is left in it.
    Raises OSError."""
    remove_left(place.parent, re.escape(place.name))
    folder, lock = _locked(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is removed with what kills have left
        os.close(lock)


def remove_left(around: Path, names: str) -> None:
    """Removes what killed processes have left in `around` of making what has one of these names, a regular expression.
    Nothing of a folder that is not there, or shows nobody what is in it."""
    ours = re.compile(rf"\.([0-9a-f]{{8}})-\w{{8}}-(?:{names})")
    try:
        there = [*around.iterdir()]
    except OSError:
        return
    for path in there:
        found = ours.fullmatch(path.name)
        if found:
            _remove_if_left(path, found[1])


def is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > OLD  # of a folder: since a file was made or renamed in it
    except FileNotFoundError:  # its process has ended at this moment
        return False


def _locked(place: Path) -> tuple[Path, int]:
    """→ a new folder, and its lock; made again if another process took it for a killed one's before it was locked"""
    while True:
        folder = Path(tempfile.mkdtemp(f"-{place.name}", f".{_kernel()}-", place.parent))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        _lock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_if_left(folder: Path, kernel: str) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:  # gone meanwhile, or another user's, who removes it
        return
    try:
        free = _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while it is removed, or it might be locked meanwhile
        if (free and kernel == _kernel() != NOWHERE) or is_old(folder):
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(lock)


def _lock(folder: int, how: int) -> bool:
    """→ False where the file system has no locks. Raises BlockingIOError where another process has it, if `how` says
    not to wait."""
    try:
        fcntl.flock(folder, how)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _kernel() -> str:
    """→ what no other running kernel is called; NOWHERE where the system doesn't say"""
    try:
        return BOOT.read_text()[:8]
    except OSError:
        return NOWHERE
