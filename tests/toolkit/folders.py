"""What tests of saved folders share."""

import json
from collections.abc import Callable
from pathlib import Path

from toolkit import Recipe

INT = Recipe(precision="int", symmetric=True)


def edit(place: Path, change: Callable[[dict], object]) -> None:
    """Changes the JSON of the folder's graph."""
    document = json.loads((place / "opswap.json").read_text("utf-8"))
    change(document)
    (place / "opswap.json").write_text(json.dumps(document), "utf-8")
