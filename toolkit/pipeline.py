"""The story in one function: capture, passes, quantize, fuse, lower. PASSES and FUSIONS alone decide the order."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

import targets
from targets.base import Pass
from toolkit import passes
from toolkit.capture import capture
from toolkit.equalize import equalize, refine
from toolkit.fuse import FUSIONS
from toolkit.lower import lower
from toolkit.quantize import chosen as to_quantize
from toolkit.quantize import keep_float, linears_of, quantize
from toolkit.recipe import Recipe
from toolkit.report import attach

log = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # everything else is captured in float32

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
    data: Iterable[Mapping[str, Tensor]] | None = None,
) -> fx.GraphModule:
    """model: float, as Hugging Face made it → a graph for `target`, called as the model was, any batch and
    sequence length; report_of(graph) says what ran and what stayed in float. The model itself is not changed.
    data: batches of calibration, int64 tensors by the names of the model's arguments, iterable more than once.

    Raises UsageError for an unknown target, a precision that it does not have, or a scheme that does not
    exist yet; TargetUnavailable when the target cannot run here; NotNative when strict and it would not run
    natively; CaptureError when the model cannot be captured.
    """
    recipe = recipe or Recipe()
    chosen = targets.get(target)
    execution = targets.require_runnable(chosen, recipe.precision, strict)
    _require_dynamic(recipe)
    graph = capture(model, DTYPES.get(recipe.precision, torch.float32))
    run(graph, PASSES)
    swapped, fused, equalized = 0, {}, {}
    if recipe.precision == "int":
        equal = equalize(graph, recipe, to_quantize(graph, recipe), data)
        clean(graph)
        swapped = quantize(graph, recipe)
        equalized = refine(graph, equal, recipe)
        fused = fuse(graph, chosen.fusions - set(recipe.without))
    floats = len(linears_of(graph))
    run(graph, chosen.passes)
    lower(graph, chosen, recipe)
    if recipe.precision != "int":
        keep_float(graph, f"{chosen.name} has no operator of its own for it at precision {recipe.precision}")
        swapped = floats - len(linears_of(graph))
    attach(graph, recipe, chosen, execution, swapped, fused, equalized)
    return graph


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
    if recipe.scheme != "dynamic":
        raise targets.UsageError(f"only the scheme dynamic exists today; got {recipe.scheme!r}; leave it at dynamic")
