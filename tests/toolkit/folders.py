"""What tests of saved folders share."""

import json
from collections.abc import Callable
from pathlib import Path

from toolkit import Recipe
from toolkit.checkpoint import folder

INT = Recipe(precision="int", symmetric=True)


def edit(place: Path, change: Callable[[dict], object]) -> None:
    """Changes the JSON of the folder's graph."""
    document = json.loads((place / "opswap.json").read_text("utf-8"))
    change(document)
    (place / "opswap.json").write_text(json.dumps(document), "utf-8")


NEW = {"a": b"new a", "b": b"new b" * 1000}


def write_new(place: Path) -> None:
    for name, content in NEW.items():
        (place / name).write_bytes(content[: len(content) // 2])
        folder.step("half of a file")
        (place / name).write_bytes(content)
        folder.step("a file")


def content_of(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}
