"""Result files: written beside and renamed into place, so that none is ever half there."""

from collections.abc import Callable
from pathlib import Path

from models import InputError
from toolkit.in_place import folder_beside, replacing, require_replaceable


def write(path: Path, text: str) -> None:
    """UTF-8. Raises InputError as `in_place` does."""
    in_place(path, lambda beside: beside.write_text(text, "utf-8"))


def in_place(path: Path, make: Callable[[Path], object]) -> None:
    """`make` writes a file beside `path`, of the same ending, which then takes its place, with the rights that any new
    file gets; the folder is made if need be. Raises InputError where that can't be."""
    try:
        with replacing(path) as beside:
            make(beside)
    except OSError as error:
        raise _unwritable(path, error) from error


def require_places(*paths: Path | None) -> None:
    """Raises, before anything has spent its time, the InputError of a place that `in_place` could not write to, and of
    one that is given twice."""
    given = [path for path in paths if path]
    for number, path in enumerate(given):
        if path.absolute() in [other.absolute() for other in given[:number]]:
            raise InputError(f"{path} would be written twice: give each file a place of its own")
        try:
            require_replaceable(path)
            with folder_beside(path):
                pass
        except OSError as error:
            raise _unwritable(path, error) from error


def named(output: Path | None, *endings: str) -> list[Path]:
    """→ output.ENDING for each of `endings`, none without an output. Raises InputError for one without a name."""
    if output and not output.name:
        raise InputError(f"{output} is a folder: give the beginning of the files' names")
    return [output.with_name(f"{output.name}.{ending}") for ending in endings] if output else []


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written ({error.strerror or error}): give another place")
