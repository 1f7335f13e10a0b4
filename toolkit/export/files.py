"""Files written beside their place and renamed into it: the old one or the new, never a part."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit.export.errors import ExportError
from toolkit.in_place import folder_beside, require_replaceable


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """→ where to write the file; in the end it stands at `place`, with what was written beside it, unless something
    was raised. Raises ExportError for a place that can't be written to."""
    with _made_beside(place) as new:
        yield new / place.name
        _move(new, place)


@contextmanager
def _made_beside(place: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            require_replaceable(place)
            new = stack.enter_context(folder_beside(place))
        except IsADirectoryError as error:
            raise ExportError(f"{place} is a folder: give the name of a file") from error
        except OSError as error:
            raise ExportError(f"{place} can't be written to ({error.strerror or error}): give another place") from error
        yield new


def require_place(place: Path) -> None:
    """Raises, before anything has spent its time, the ExportError of a place that can't be written to."""
    with _made_beside(place):
        pass


def data_name(place: Path, digest: str) -> str:
    """→ the name of the weights' file beside `place`; other weights have another name, so that the two files need not
    change in one step. It has all of the file's name: model.pt2 must not take model.onnx's weights for its own"""
    return f"{place.name}-{digest[:12]}.data"


def _move(new: Path, place: Path) -> None:
    """First the weights, which nothing reads yet, then the file that names them; at last the weights of the old one."""
    ours = re.compile(re.escape(place.name) + r"-[0-9a-f]{12}\.data")
    before = {path.name for path in place.parent.iterdir() if ours.fullmatch(path.name)}
    written = sorted(new.iterdir(), key=lambda path: path.name == place.name)
    for path in written:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(path, place.parent / path.name)
    for name in before - {path.name for path in written}:
        (place.parent / name).unlink()
