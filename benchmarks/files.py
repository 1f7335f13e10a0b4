"""Result files: written beside and renamed into place, so that none is ever half there."""

import os
from collections.abc import Callable
from pathlib import Path


def write(path: Path, text: str) -> None:
    """UTF-8; the folder is made if need be."""
    in_place(path, lambda beside: beside.write_text(text, "utf-8"))


def in_place(path: Path, make: Callable[[Path], object]) -> None:
    """`make` writes a file beside `path`, of the same ending, which then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        make(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
