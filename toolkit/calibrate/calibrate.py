"""The float graph and data → how each linear's input becomes bytes, with one scale and zero point each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from targets._linear import Activation
from targets.base import UsageError
from toolkit.calibrate.histogram import BINS, Histogram
from toolkit.calibrate.observe import Histograms, readers
from toolkit.calibrate.place import lasting
from toolkit.calibrate.ranges import activation_of
from toolkit.calibrate.state import Counts, key_of
from toolkit.calibrate.stream import Batches, Progress, stream
from toolkit.quantize import linears_of
from toolkit.recipe import Recipe

STATIC = ("int", "static")  # precision and scheme of the linears that are calibrated
FORMAT = "opswap-calibration-1"


@dataclass(frozen=True)
class Calibration:
    """activations: by the linears' names, those that the recipe wants static; report: plain values, for JSON."""

    activations: dict[str, Activation]
    report: dict[str, object]


def require_data(recipe: Recipe, data: object) -> None:
    """Raises UsageError where the scheme is static and there is no data, or it is not of the recipe's precision, and
    for data that can be iterated only once."""
    if recipe.precision != "int" and recipe.scheme != "dynamic":
        wanted = f"the scheme {recipe.scheme} is for the precision int"
        raise UsageError(f"{wanted}; got {recipe.precision}; leave it at dynamic")
    if recipe.is_static() and data is None:
        raise UsageError(
            "the scheme static wants data to calibrate with; got none; "
            "give --calibration FILE (transform: data=), a SQuAD file or one passage a line"
        )
    if isinstance(data, Iterator):
        raise UsageError("calibration data must be iterable more than once; got an iterator; pass a list")


def calibrate(
    graph: fx.GraphModule,
    recipe: Recipe,
    data: Batches,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """graph: float, with raised linears. Memory does not grow with the data.

    folder: where to write what was seen so far, in a file named after model and data; a call that finds it goes on
    from there, and a finished one is not run again. progress is told the batches done, those of an earlier call first,
    then after each. Raises UsageError for no data or data that can be iterated only once, NotFinite for activations
    that are not finite.
    """
    require_data(recipe, data)
    layers = {name: recipe.layer(name) for name in linears_of(graph)}
    groups = readers(graph, [name for name, layer in layers.items() if (layer.precision, layer.scheme) == STATIC])
    histograms, counts = _seen(graph, [group[0] for group in groups], data, folder, progress)
    if not counts.tokens:
        raise UsageError("calibration wants at least one batch with real tokens; got none; give other data")
    activations = {}
    for group in groups:
        for name in group:
            symmetric = layers[name].symmetric
            activations[name] = activation_of(histograms[group[0]], recipe.ranges, recipe.percentile, symmetric)
    report: dict[str, object] = {"ranges": recipe.ranges, "symmetric": recipe.symmetric}
    if recipe.ranges == "percentile":
        report["percentile"] = recipe.percentile
    return Calibration(activations, {**report, "batches": counts.batches, "tokens": counts.tokens})


def _seen(
    graph: fx.GraphModule, names: list[str], data: Batches, folder: Path | None, progress: Progress | None
) -> tuple[dict[str, Histogram], Counts]:
    """→ the histograms of all the data, those of an earlier run gone on with, and how much that is"""
    key = key_of(graph, (FORMAT, BINS, names), data) if folder else ""
    place = lasting(folder, key) if folder else None
    histograms = Histograms(graph, names)
    counts = stream(histograms, data, place, progress)
    return histograms.found, counts
