"""The second half of the story: from a graph whose linears are what they will be to one that the target runs."""

from functools import partial

from torch import fx

import targets
from targets._attention import Attention, AttentionRows, BiasedAttention, CachedAttention
from targets._disentangled import DisentangledAttention
from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from toolkit.bind import bind
from toolkit.elsewhere import as_there
from toolkit.fuse.cached import narrow_cache
from toolkit.fuse.wide import widen_rows
from toolkit.last_token import keep_last_token
from toolkit.lower import lower
from toolkit.narrow import DTYPES
from toolkit.native import go_native
from toolkit.quantize import keep_at_fp8, keep_float, linears_of, quantize, schemes_of
from toolkit.recipe import Recipe
from toolkit.report import ELSEWHERE, attach, extra_terms
from toolkit.rewrite import fuse, run

ATTENTIONS = (Attention, AttentionRows, BiasedAttention, CachedAttention, DisentangledAttention)


def lowered(
    graph: fx.GraphModule,
    recipe: Recipe,
    target: str,
    strict: bool = False,
    native: bool = True,
    last_token: bool = False,
) -> fx.GraphModule:
    """fuse, lower, in place, of a graph that is quantized if the recipe says so. → the graph; or, of a target that
    runs exported files by itself here, a graph that calls its session, unless `native` is False: then the target's own
    modules, as on a machine without its device. last_token: of a graph with a cache, only the logits of the last token
    """
    chosen = targets.get(target)
    execution = targets.require_runnable(chosen, recipe.precision, strict)
    if last_token:
        run(graph, (keep_last_token,))
    if ELSEWHERE in graph.meta:
        recipe = as_there(recipe, graph)
    if recipe.precision == "fp8" and recipe.precision in chosen.quantized:
        quantize(graph, recipe)
    rounded = sum(isinstance(module, QuantizedLinear | WeightLinear) for module in graph.modules())
    swapped = rounded - len(extra_terms(graph))
    schemes = schemes_of(graph) if recipe.precision == "int" else {}  # now: a target's own modules don't say
    if recipe.precision == "int" and execution.native and chosen.native is not None:
        outside = None
        if native:
            outside, execution = go_native(graph, recipe, chosen, execution, strict)
        else:
            execution = chosen.native.instead("its device was not asked for")
        if outside is not None:
            attach(outside, recipe, chosen, execution, swapped, {}, schemes)
            return outside
    floats = set(linears_of(graph))  # now: fusing gives linears other names
    fused = fuse(graph, chosen.fusions - set(recipe.without)) if recipe.precision in chosen.fused else {}
    for module in graph.modules():
        if isinstance(module, ATTENTIONS):
            module.precise, module.narrow = recipe.precise_attention(), recipe.precision in DTYPES
    run(graph, (partial(narrow_cache, to=chosen.kept),))
    if recipe.precision in chosen.wide:
        run(graph, (widen_rows,))
    run(graph, chosen.passes)
    if recipe.precision == "fp8":
        keep_at_fp8(graph, recipe, chosen.why_not_fp8)
    lower(graph, chosen, recipe)
    if recipe.precision not in chosen.quantized:
        left = keep_float(graph, f"{chosen.name} has no operator of its own for it at precision {recipe.precision}")
        swapped = len(floats - left)
    attach(graph, recipe, chosen, execution, swapped, fused, schemes)
    bind(graph)
    return graph
