"""A file written beside its place and renamed into it, so that none is ever half there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """→ where to write a file of the same ending, which then takes the place of `path`, with the rights that any new
    file gets, unless something was raised; the folder is made if need be. Raises OSError where that can't be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        beside.chmod(mode)  # safetensors' files are the owner's alone
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
