"""A file written beside its place and renamed into it, so that none is ever half there."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from operators.own_folder import making


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """→ where to write a file of the same ending, which then takes the place of `path`, with the rights that any new
    file gets, unless something was raised; the folder is made if need be. Raises OSError where that can't be."""
    require_replaceable(path)
    with folder_beside(path) as apart:
        beside = apart / path.name
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        beside.chmod(mode)  # safetensors' files are the owner's alone
        os.replace(beside, path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """→ a folder that no other process has, on the disk of `path`; in the end it is gone with all that is left in it. A
    kill leaves it, safetensors' own .tmp file too, until the same path is written to again. The folder around it is
    made if need be. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with making(path) as folder:
        yield folder


def require_replaceable(path: Path) -> None:
    """Raises OSError for what is there and no file: who may rename into /dev would else be without its /dev/null."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is there, and no file", str(path))
