"""The story in one function: PASSES and FUSIONS, to_int between them and `lowered` after them, decide the order of
everything."""

from dataclasses import fields
from pathlib import Path
from typing import cast

import torch
from torch import fx, nn

import targets
from targets.base import Pass
from toolkit import checkpoint, passes
from toolkit.calibrate import Batches, Progress, Told, require_data
from toolkit.capture import capture, from_export
from toolkit.elsewhere import adopt, quantize_elsewhere, require_possible
from toolkit.equalize.stored import ORIGIN
from toolkit.integers import to_int
from toolkit.lowering import lowered
from toolkit.narrow import DTYPES, narrow
from toolkit.products import product_to_linear
from toolkit.qdq import read_qdq
from toolkit.quantizers import NATIVE, Accuracy
from toolkit.raising import raise_linear, untie_heads
from toolkit.recipe import Recipe
from toolkit.report import WEIGHTS
from toolkit.rewrite import clean, fuse, run
from toolkit.spelled import raise_rotated
from toolkit.writes import out_of_place

__all__ = [
    "CLEANING",
    "PASSES",
    "captured",
    "clean",
    "finish",
    "fuse",
    "lowered",
    "made_elsewhere",
    "quantized",
    "run",
    "transform",
]

PASSES: tuple[Pass, ...] = (
    passes.drop_assertions,  # first: they hold on to values that nothing else uses
    passes.drop_dropout,
    passes.drop_conversions,
    passes.drop_whole_slices,
    passes.drop_same_views,
    out_of_place,  # before any that puts a tensor in the place of its copy, or reads it elsewhere
    passes.drop_empty_parts,
    passes.outputs_to_float32,
    raise_rotated,
    read_qdq,  # before raise_linear: what it cannot read is a linear all the same
    product_to_linear,
    untie_heads,  # before raise_linear, which leaves a weight alone that anything else uses
    raise_linear,
)
CLEANING = PASSES[: PASSES.index(raise_rotated)]  # what another quantizer is given has been through these
FOR_INT = (untie_heads,)  # of the passes, what is for graphs whose linears become integers


def transform(
    model: nn.Module,
    recipe: Recipe | None = None,
    target: str = "cpu",
    strict: bool = False,
    data: Batches | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    accuracy: Accuracy | None = None,
    native: bool = True,
    last_token: bool = False,
) -> fx.GraphModule:
    """model: float, as Hugging Face made it, or what checkpoint.load gave, or a Q/DQ graph that was exported and
    quantized elsewhere → a graph for `target`, called as the model was, any batch and sequence length;
    report_of(graph) says what ran and what stayed in float. The model itself is not changed.

    data: batches to calibrate with, int64 tensors by the names of the model's arguments; folder and progress: as
    calibrate takes them, for every pass over the data. accuracy(graph) → a number, the higher the better, for a
    quantizer that looks for its best settings. native, last_token: see `lowered`.

    Raises UsageError for an unknown target, a precision that it does not have, the scheme static without data, or a
    quantizer that is not installed or cannot do what is asked;
    TargetUnavailable when the target cannot run here; NotNative when strict and it would not run
    natively; CaptureError when the model cannot be captured.
    """
    recipe = recipe or checkpoint.recipe_of(model) or Recipe()
    targets.require_runnable(targets.get(target), recipe.precision, strict)
    targets.require_schemes(targets.get(target), recipe.schemes())
    if recipe.precision == "int":
        graph = quantized(model, recipe, data, folder, progress, accuracy)
    else:
        require_possible(recipe, accuracy)
        require_data(recipe, data)
        graph = captured(model, recipe.precision)
    return lowered(graph, recipe, target, strict, native, last_token)


def captured(model: nn.Module, precision: str = "fp") -> fx.GraphModule:
    """capture, passes: → the float graph that `finish` takes, or any number of copies of it. precision: what the graph
    is going to be; it is float32 where that is int."""
    if checkpoint.recipe_of(model) is not None:
        raise targets.UsageError(f"the checkpoint is in int; got the precision {precision!r}; leave that out")
    if isinstance(model, fx.GraphModule):
        graph = from_export(model)
        if precision == "int":
            _require_float32(graph)
        if precision in DTYPES:
            narrow(graph, DTYPES[precision])
        graph.meta[WEIGHTS] = model.meta.get(WEIGHTS)
    else:
        graph = capture(model, DTYPES.get(precision, torch.float32))
        graph.meta[WEIGHTS] = getattr(model, WEIGHTS, None)
    run(graph, [one for one in PASSES if precision == "int" or one not in FOR_INT])
    graph.meta[ORIGIN] = getattr(model, "name_or_path", None)
    return graph


def _require_float32(graph: fx.GraphModule) -> None:
    """Raises UsageError for a parameter of 16 bits: what the graph converts to and from would not fit the linears'"""
    for name, value in graph.named_parameters():
        if value.dtype in DTYPES.values():
            kind = str(value.dtype).removeprefix("torch.")
            raise targets.UsageError(
                f"a graph in float32 was wanted; its {name} is {kind}; export the model in float32"
            )


def finish(
    graph: fx.GraphModule, recipe: Recipe, target: str, strict: bool = False, data: Batches | None = None
) -> fx.GraphModule:
    """calibrate, quantize, fuse, lower, in place: what is left of `transform` for a graph that `captured` made at the
    recipe's precision. → the graph"""
    if recipe.precision == "int":
        to_int(graph, recipe, data)
    return lowered(graph, recipe, target, strict)


def quantized(
    model: nn.Module,
    recipe: Recipe,
    data: Batches | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    accuracy: Accuracy | None = None,
) -> fx.GraphModule:
    """model, recipe: as `transform` takes them, precision int → the graph before fusing and lowering, which a
    checkpoint holds; of a graph that came from one a copy. Raises UsageError for a recipe that isn't that one's, and
    as `transform` does for data and quantizer."""
    saved = checkpoint.recipe_of(model)
    if saved is None:
        require_possible(recipe, accuracy)
        if not isinstance(model, fx.GraphModule):  # of one that is quantized already to_int says what it takes
            require_data(recipe, data)
        if recipe.quantizer != NATIVE:
            told = data if data is None or progress is None else Told(data, progress)
            return _quantized_elsewhere(model, recipe, told, accuracy)
        graph = captured(model, recipe.precision)
        to_int(graph, recipe, data, folder, progress)
        return graph
    for field in fields(saved):
        was, wanted = getattr(saved, field.name), getattr(recipe, field.name)
        if was != wanted and field.name != "without":
            raise targets.UsageError(
                f"the checkpoint has {field.name} {was!r}; got {wanted!r}; quantize the model again"
            )
    return checkpoint.copied(cast(fx.GraphModule, model))


def made_elsewhere(
    model: nn.Module, recipe: Recipe, data: Batches | None, accuracy: Accuracy | None = None
) -> fx.GraphModule:
    """→ the Q/DQ graph that the recipe's quantizer makes of the model; PyTorch runs it"""
    graph = capture(model)
    run(graph, CLEANING)
    return quantize_elsewhere(graph, recipe, data, accuracy)


def _quantized_elsewhere(
    model: nn.Module, recipe: Recipe, data: Batches | None, accuracy: Accuracy | None
) -> fx.GraphModule:
    """→ the graph that the recipe's quantizer makes, read; what the recipe keeps is not quantized"""
    made = made_elsewhere(model, recipe, data, accuracy)
    run(made, PASSES)
    adopt(made)
    return made
