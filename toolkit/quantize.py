"""Float linears → quantized linears, the same for every target."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import fx, nn

from operators.validate import MAX_K
from operators.weights import WeightError
from targets._bf16 import Bf16Linear
from targets._fp8 import Fp8Linear
from targets._fused import RowsLinear
from targets._linear import Activation, QuantizedLinear
from targets._pages import let_go
from targets._swap import outermost
from targets._weight import WeightLinear
from toolkit.fuse.matching import MERGED
from toolkit.recipe import SCHEMES, Layer, Recipe
from toolkit.report import extra_terms, keep, kept_names

__all__ = [
    "QuantizedLinear",
    "chosen",
    "keep_at_fp8",
    "keep_float",
    "linears_of",
    "quantize",
    "quantized_of",
    "scheme_of",
    "schemes_of",
]

WEIGHT = "weight"  # the scheme that leaves activations in float


def linears_of(graph: fx.GraphModule) -> dict[str, nn.Linear]:
    """→ the raised linears by their names, each once however often it is called"""
    return {name: module for name, module in graph.named_modules() if isinstance(module, nn.Linear)}


def quantized_of(graph: fx.GraphModule) -> dict[str, Any]:
    """→ by their names what is in 8 bits: QuantizedLinear, alone or in a RowsLinear, and WeightLinear"""
    found = outermost(graph)
    linears = {name: module.linear if isinstance(module, RowsLinear) else module for name, module in found}
    return {name: module for name, module in linears.items() if isinstance(module, QuantizedLinear | WeightLinear)}


def scheme_of(layers: Iterable[Any]) -> str:
    """layers: as quantized_of gives them → the scheme of most of them"""
    return Counter(map(_scheme, layers)).most_common(1)[0][0]


def schemes_of(graph: fx.GraphModule) -> dict[str, int]:
    """→ how many of the linears in 8 bits have each scheme; those that are second terms don't count"""
    found = Counter(_scheme(layer) for name, layer in quantized_of(graph).items() if name not in extra_terms(graph))
    return {scheme: found[scheme] for scheme in SCHEMES if found[scheme]}


def _scheme(layer: Any) -> str:
    if isinstance(layer, WeightLinear):
        return WEIGHT
    return "dynamic" if layer.activation.scale is None else "static"


def chosen(graph: fx.GraphModule, recipe: Recipe) -> list[str]:
    """→ the names of the linears that `quantize` is going to swap"""
    return [name for name, linear in linears_of(graph).items() if not _why_not(linear, recipe.layer(name))]


def quantize(graph: fx.GraphModule, recipe: Recipe, activations: Mapping[str, Activation] | None = None) -> int:
    """nn.Linear → QuantizedLinear (Fp8Linear at fp8) under the same name, unless the recipe keeps it or int32 could not
    hold its sums; what it keeps in bf16 → Bf16Linear, what has the scheme weight → WeightLinear.

    Weights are rounded here, int8 with one scale for each output channel. activations: what calibration found, by
    the linears' names; those without are quantized per token. → how many, by unique name.
    Raises WeightError, with the layer's name, for a weight that is not finite, UsageError for a pattern of the recipe
    that matches no linear.
    """
    swapped, linears, found = 0, linears_of(graph), activations or {}
    recipe.require_matches({*linears, *kept_names(graph)})
    for name, linear in linears.items():
        layer = recipe.layer(name)
        why = _why_not(linear, layer)
        if why:
            keep(graph, name, why, "bf16" if layer.precision == "bf16" else "fp")
            if layer.precision == "bf16":
                graph.set_submodule(name, Bf16Linear(linear).eval())
                let_go(linear.weight)
            continue
        try:
            quantized = _quantized(linear, layer, found.get(name, Activation(layer.symmetric)))
        except WeightError as error:
            raise WeightError(f"linear {name} cannot be quantized: {error}") from error
        graph.set_submodule(name, quantized.eval())
        let_go(linear.weight)
        swapped += 1
    return swapped


def _quantized(linear: nn.Linear, layer: Layer, how: Activation) -> nn.Module:
    if layer.precision == "fp8":
        return Fp8Linear.from_linear(linear)
    return WeightLinear.from_linear(linear) if layer.scheme == WEIGHT else QuantizedLinear.from_linear(linear, how)


def keep_float(graph: fx.GraphModule, why: str) -> set[str]:
    """Notes every raised linear as kept, those that fusing made one by their own names. → the names"""
    merged = graph.meta.get(MERGED, {})
    names = {name for linear in linears_of(graph) for name in merged.get(linear, (linear,))}
    for name in names:
        keep(graph, name, why)
    return names


def keep_at_fp8(graph: fx.GraphModule, recipe: Recipe, why_not: Callable[[nn.Linear], str | None]) -> None:
    """Notes the linears that the recipe's patterns or the target, by `why_not`, keep in float, with their why."""
    linears = linears_of(graph)
    recipe.require_matches({*linears, *kept_names(graph)})
    for name, linear in linears.items():
        why = recipe.layer(name).why or why_not(linear)
        if why:
            keep(graph, name, why)


def _why_not(linear: nn.Linear, layer: Layer) -> str | None:
    """→ why `linear` is not quantized, None if it is"""
    if layer.precision not in ("int", "fp8"):
        return layer.why
    if linear.in_features > MAX_K and layer.scheme != WEIGHT:
        return f"int32 holds the sums of at most {MAX_K} products; it has {linear.in_features}"
    if not linear.in_features or not linear.out_features:
        return "it is empty"
    return None
