"""Rounding that lies with a model: left there, and compared."""

from models.calibration import CalibrationData
from toolkit import Recipe
from toolkit.equalize.stored import write
from toolkit.integers import find_rounding
from toolkit.pipeline import captured
from toolkit.quantize import QuantizedLinear

INT = Recipe(precision="int")

NONE = "no calibration data"
DATA = {"file": "sample-v1.1.json.gz", "samples": 12}


def leave(folder, model, data: CalibrationData, recipe=INT):
    return write(folder, find_rounding(captured(model, "int"), recipe, data, DATA))


def copy_of(folder, place):
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def integers(graph):
    return {name: module for name, module in graph.named_modules() if isinstance(module, QuantizedLinear)}
