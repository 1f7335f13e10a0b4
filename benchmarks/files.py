"""Result files: written beside and renamed into place, so that none is ever half there."""

import os
from collections.abc import Callable
from pathlib import Path

from models.errors import InputError


def write(path: Path, text: str) -> None:
    """UTF-8; the folder is made if need be. Raises InputError where it can't be written."""
    in_place(path, lambda beside: beside.write_text(text, "utf-8"))


def in_place(path: Path, make: Callable[[Path], object]) -> None:
    """`make` writes a file beside `path`, of the same ending, which then takes its place.

    Raises InputError where it can't be written.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            make(beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def require_writable(path: Path) -> None:
    """Raises InputError where `path` can't be written: asked before the work of minutes that it is to hold."""
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise _refused(path, error) from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}-{path.name}")


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written ({error.strerror or error}): give another place")
