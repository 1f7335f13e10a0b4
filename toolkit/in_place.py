"""A file written beside its place and renamed into it, so that none is ever half there."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """→ where to write a file of the same ending, which then takes the place of `path`, with the rights that any new
    file gets, unless something was raised; the folder is made if need be. Raises OSError where that can't be."""
    if path.exists() and not path.is_file():  # who may rename into /dev would else be without its /dev/null
        raise FileExistsError(errno.EEXIST, "it is there, and no file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # a folder of its own, by this process's number: a kill leaves all in it, safetensors' own .tmp file too
    prefix, suffix = f".{os.getpid()}-", f"-{path.name}"
    with tempfile.TemporaryDirectory(suffix, prefix, path.parent, ignore_cleanup_errors=True) as apart:
        beside = Path(apart) / path.name
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        beside.chmod(mode)  # safetensors' files are the owner's alone
        os.replace(beside, path)
