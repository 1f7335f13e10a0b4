"""The float graph → its linears in 8 bits: equalize, calibrate, quantize, refine, add terms."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import fx

from toolkit.calibrate import Batches, Calibration, Progress, Scratch, calibrate, require_data
from toolkit.elsewhere import adopt, require_as_it_is
from toolkit.equalize import Equalized, equalize, refine, rounding_of
from toolkit.equalize.stored import ORIGIN, Stored
from toolkit.quantize import chosen, quantize, quantized_of
from toolkit.recipe import Recipe
from toolkit.report import CALIBRATED, EQUALIZED
from toolkit.rewrite import clean
from toolkit.terms import add_terms


@dataclass(frozen=True)
class Prepared:
    """What was learnt from data before anything is rounded; calibration is None where no linear is static. scratch:
    what a run that is killed goes on with; to be cleared where none of it is wanted any more."""

    equalized: Equalized
    calibration: Calibration | None
    scratch: Scratch


def to_int(
    graph: fx.GraphModule,
    recipe: Recipe,
    data: Batches | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """All of it, in place; notes on the graph what was done

    A graph with linears of another quantizer, read by read_qdq, stays as it is; raises UsageError for what the recipe
    says against that.
    """
    if quantized_of(graph):
        require_as_it_is(graph, recipe, data)
        adopt(graph)
        return
    require_data(recipe, data)
    round_all(graph, recipe, prepare(graph, recipe, data, folder, progress))


def prepare(
    graph: fx.GraphModule,
    recipe: Recipe,
    data: Batches | None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Smooths and rotates the float graph, in place, and observes it: equalize, calibrate. Without data it goes by what
    is stored in the folder of the graph's model, if anything is. folder, progress: as `calibrate` takes them, for every
    pass."""
    scratch = Scratch(folder)
    equalized = equalize(graph, recipe, chosen(graph, recipe), data, graph.meta.get(ORIGIN), scratch, progress)
    clean(graph)
    found = calibrate(graph, recipe, data, folder, progress) if recipe.is_static() and data is not None else None
    return Prepared(equalized, found, scratch)


def round_all(graph: fx.GraphModule, recipe: Recipe, prepared: Prepared) -> None:
    """quantize, refine, add_terms, in place; what a run that is killed goes on with is of no use then, and cleared"""
    found = prepared.calibration
    quantize(graph, recipe, found.activations if found else None)
    graph.meta[CALIBRATED] = found.report if found else prepared.equalized.stored.data
    graph.meta[EQUALIZED] = refine(graph, prepared.equalized, recipe)
    if add_terms(graph, recipe, {name: linear.weight for name, linear in prepared.equalized.linears.items()}):
        clean(graph)
    prepared.scratch.clear()


def find_rounding(
    graph: fx.GraphModule,
    recipe: Recipe,
    data: Batches,
    about: dict[str, object],
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Stored:
    """graph: as `captured` makes it, used up; about: file and samples of the data → what `toolkit.equalize.stored`
    keeps in the model's folder. Nothing is smoothed: weights and their shapes stay those of the model."""
    recipe = replace(recipe, smooth=False)
    prepared = prepare(graph, recipe, data, folder, progress)
    round_all(graph, recipe, prepared)
    return rounding_of(prepared.equalized, recipe, about)
