"""What a file says about how it was made: nothing that changes from one day, or one machine, to the next."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from torch import fx

from toolkit.inputs import KEY
from toolkit.onnx_session import INPUTS
from toolkit.recipe import Recipe
from toolkit.recipe_file import dump
from toolkit.report import CALIBRATED, EQUALIZED, KEPT

PACKAGES = ("torch", "transformers", "onnx", "onnxscript")


def about(graph: fx.GraphModule, recipe: Recipe, model: str) -> dict[str, str]:
    """graph: as the writers take it; model: as the user named it, of which a path's last part is told. → name → text"""
    inputs = graph.meta[KEY]
    noted: dict[str, Any] = {"kept": list(graph.meta.get(KEPT, {}).values())}
    noted |= {"calibration": graph.meta.get(CALIBRATED), "equalized": graph.meta.get(EQUALIZED)}
    return {
        "opswap.model": Path(model).name if Path(model).exists() else model,
        "opswap.class": type(graph).__name__,
        "opswap.precision": recipe.precision,
        "opswap.scheme": recipe.scheme if recipe.precision == "int" else "",
        "opswap.recipe": dump(recipe),
        **{f"opswap.{name}": json.dumps(value) for name, value in noted.items() if value},
        INPUTS: json.dumps({"ignored": inputs.ignored, "longest": inputs.longest}),
        "opswap.versions": json.dumps({name: found for name in PACKAGES if (found := _version(name))}),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
