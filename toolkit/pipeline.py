"""The story in one function: capture, passes, quantize, fuse, lower. PASSES and FUSIONS alone decide the order."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import cast

import torch
from torch import Tensor, fx, nn

import targets
from targets._linear import QuantizedLinear
from targets.base import Pass
from toolkit import checkpoint, passes
from toolkit.capture import capture
from toolkit.equalize import equalize, refine
from toolkit.fuse import FUSIONS
from toolkit.lower import lower
from toolkit.quantize import chosen as chosen_linears
from toolkit.quantize import keep_float, linears_of, quantize
from toolkit.recipe import Recipe
from toolkit.report import EQUALIZED, attach

log = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # everything else is captured in float32

Data = Iterable[Mapping[str, Tensor]]  # iterable more than once

PASSES: tuple[Pass, ...] = (
    passes.drop_assertions,  # first: they hold on to values that nothing else uses
    passes.drop_dropout,
    passes.drop_conversions,
    passes.drop_whole_slices,
    passes.outputs_to_float32,
    passes.raise_linear,
)


def transform(
    model: nn.Module,
    recipe: Recipe | None = None,
    target: str = "cpu",
    strict: bool = False,
    data: Data | None = None,
) -> fx.GraphModule:
    """model: float, as Hugging Face made it, or what checkpoint.load gave → a graph for `target`, called as the
    model was, any batch and sequence length; report_of(graph) says what ran and what stayed in float. The model
    itself is not changed. data: batches of calibration, int64 tensors by the names of the model's arguments.

    Raises UsageError for an unknown target, a precision that it does not have, or a scheme that does not
    exist yet; TargetUnavailable when the target cannot run here; NotNative when strict and it would not run
    natively; CaptureError when the model cannot be captured.
    """
    recipe = recipe or checkpoint.recipe_of(model) or Recipe()
    targets.require_runnable(targets.get(target), recipe.precision, strict)
    _require_dynamic(recipe)
    graph = quantized(model, recipe, data) if recipe.precision == "int" else captured(model, recipe.precision)
    return lowered(graph, recipe, target, strict)


def captured(model: nn.Module, precision: str = "fp") -> fx.GraphModule:
    """capture, passes: → the float graph that `finish` takes, or any number of copies of it"""
    if checkpoint.recipe_of(model) is not None:
        raise targets.UsageError(f"the checkpoint is in int; got the precision {precision!r}; leave that out")
    graph = capture(model, DTYPES.get(precision, torch.float32))
    run(graph, PASSES)
    return graph


def finish(graph: fx.GraphModule, recipe: Recipe, target: str, strict: bool = False) -> fx.GraphModule:
    """quantize, fuse, lower, in place: what is left of `transform` for a graph that `captured` made at the recipe's
    precision. → the graph"""
    _require_dynamic(recipe)
    if recipe.precision == "int":
        to_int(graph, recipe)
    return lowered(graph, recipe, target, strict)


def lowered(graph: fx.GraphModule, recipe: Recipe, target: str, strict: bool = False) -> fx.GraphModule:
    """fuse, lower, in place, of a graph that is quantized if the recipe says so. → the graph"""
    chosen = targets.get(target)
    execution = targets.require_runnable(chosen, recipe.precision, strict)
    swapped = sum(isinstance(module, QuantizedLinear) for module in graph.modules())
    fused = fuse(graph, chosen.fusions - set(recipe.without)) if recipe.precision == "int" else {}
    floats = len(linears_of(graph))
    run(graph, chosen.passes)
    lower(graph, chosen, recipe)
    if recipe.precision != "int":
        keep_float(graph, f"{chosen.name} has no operator of its own for it at precision {recipe.precision}")
        swapped = floats - len(linears_of(graph))
    attach(graph, recipe, chosen, execution, swapped, fused)
    return graph


def to_int(graph: fx.GraphModule, recipe: Recipe, data: Data | None = None) -> None:
    """equalize, quantize, refine, in place; notes on the graph what was equalized"""
    equalized = equalize(graph, recipe, chosen_linears(graph, recipe), data)
    clean(graph)
    quantize(graph, recipe)
    graph.meta[EQUALIZED] = refine(graph, equalized, recipe)


def quantized(model: nn.Module, recipe: Recipe, data: Data | None = None) -> fx.GraphModule:
    """model, recipe: as `transform` takes them, precision int → the graph before fusing and lowering, which a
    checkpoint holds; of a graph that came from one a copy. Raises UsageError for a recipe that isn't that one's."""
    saved = checkpoint.recipe_of(model)
    if saved is None:
        graph = captured(model, recipe.precision)
        to_int(graph, recipe, data)
        return graph
    for field in fields(saved):
        was, wanted = getattr(saved, field.name), getattr(recipe, field.name)
        if was != wanted and field.name != "without":
            raise targets.UsageError(
                f"the checkpoint has {field.name} {was!r}; got {wanted!r}; quantize the model again"
            )
    return checkpoint.copied(cast(fx.GraphModule, model))


def run(graph: fx.GraphModule, order: Sequence[Pass]) -> list[int]:
    """Runs the passes in order; after each that rewrote something it cleans, lints and recompiles. → their counts"""
    counts = []
    for rewrite in order:
        counts.append(rewrite(graph))
        log.debug("%s: %d", getattr(rewrite, "__name__", rewrite), counts[-1])
        if counts[-1]:
            clean(graph)
    return counts


def fuse(graph: fx.GraphModule, names: Collection[str]) -> dict[str, int]:
    """Runs the fusions called `names` on a quantized graph, in the order of FUSIONS. → how often each was applied"""
    chosen = [(name, rewrite) for name, rewrite in FUSIONS if name in names]
    return dict(zip([name for name, _ in chosen], run(graph, [rewrite for _, rewrite in chosen]), strict=True))


def clean(graph: fx.GraphModule) -> None:
    """Removes nodes and submodules that nothing uses; checks the graph; makes its code anew."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()


def _require_dynamic(recipe: Recipe) -> None:
    schemes = [recipe.scheme, *(rule.scheme for rule in recipe.rules if rule.scheme)]
    other = next((scheme for scheme in schemes if scheme != "dynamic"), None)
    if other:
        raise targets.UsageError(f"only the scheme dynamic exists today; got {other!r}; leave it at dynamic")
