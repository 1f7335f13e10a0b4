"""What a recipe says to a quantizer that isn't this project's own, and of the graphs that one made."""

import re
from dataclasses import replace

from torch import fx

from targets.base import UsageError
from toolkit.calibrate import Batches
from toolkit.fuse import APPROXIMATE
from toolkit.quantize import keep_float, linears_of, quantized_of, scheme_of
from toolkit.quantizers import NATIVE, Accuracy, How, quantize_with, require_installed
from toolkit.raising import linear_names
from toolkit.recipe import KEEP, Recipe
from toolkit.report import ELSEWHERE, EQUALIZED, QUANTIZER, keep, kept_names
from toolkit.spelled import rotate_spelled

NUMBER = re.compile(r"_\d+$")
# how this project rounds; what is asked of them, their defaults left out, changes nothing elsewhere
SETTINGS = ("symmetric", "clip", "ranges", "percentile", "smooth", "compensate", "correct_bias")
UNKNOWN = "elsewhere"  # who quantized a graph that came quantized


def quantize_elsewhere(
    graph: fx.GraphModule, recipe: Recipe, data: Batches | None, accuracy: Accuracy | None
) -> fx.GraphModule:
    """graph: float, its linears not raised yet → the Q/DQ graph that the recipe's quantizer makes of it

    Where the recipe says so, the graph is rotated before, in place. What it keeps in float is not quantized, and noted.
    Raises UsageError as quantize_with does, and for a pattern that matches no linear.
    """
    layers = {name: recipe.layer(name) for name in linear_names(graph)}
    recipe.require_matches(layers)
    floats = {name: str(layer.why) for name, layer in layers.items() if layer.precision != "int"}
    rotated = rotate_spelled(graph, recipe) if recipe.rotate else None
    made = quantize_with(recipe.quantizer, graph, How(recipe.scheme == "dynamic", tuple(floats)), data, accuracy)
    for name, why in floats.items():
        keep(made, name, why)
    made.meta[QUANTIZER] = require_installed(recipe.quantizer)
    if rotated is not None:
        made.meta[EQUALIZED] = {"rotate": rotated}
    return made


def require_possible(recipe: Recipe, accuracy: Accuracy | None) -> None:
    """Raises UsageError if the recipe's quantizer isn't installed, or cannot do what the recipe says."""
    name = recipe.quantizer
    require_installed(name)
    if name == NATIVE:
        if accuracy is not None:
            raise UsageError("the native quantizer has no autotune; it was asked for; choose the quantizer inc")
        return
    if recipe.precision != "int":
        wanted = f"quantizer {name} works at precision int"
        raise UsageError(f"{wanted}; got {recipe.precision!r}; leave the quantizer out, or choose int")
    if recipe.scheme == "weight" or 16 in (recipe.activation_bits, recipe.weight_bits):
        wanted = f"quantizer {name} takes the schemes dynamic and static, 8 bits"
        raise UsageError(f"{wanted}; got {recipe.scheme}, {recipe.activation_bits} and {recipe.weight_bits}; change it")
    _require_no_settings(recipe, f"quantizer {name}")


def require_as_it_is(graph: fx.GraphModule, recipe: Recipe, data: Batches | None) -> None:
    """graph: quantized elsewhere, read. Raises UsageError for what would have it quantized in another way.

    A rule, and a keep that isn't one of KEEP, may say of a linear what it is already.
    """
    what, layers = "a graph that is quantized already", quantized_of(graph)
    scheme = scheme_of(layers.values())
    if data is not None:
        raise UsageError(f"{what} takes no calibration data; some came; leave that out")
    if recipe.scheme not in (Recipe.scheme, scheme) or 16 in (recipe.activation_bits, recipe.weight_bits):
        got = f"{recipe.scheme}, {recipe.activation_bits} and {recipe.weight_bits} bits"
        raise UsageError(f"{what} stays {scheme}, 8 bits; got {got}; leave those out")
    _require_no_settings(recipe, what, (*SETTINGS, "rotate"))
    recipe = replace(recipe, keep=tuple(pattern for pattern in recipe.keep if pattern not in KEEP))
    are = {name: "fp" for name in (*linears_of(graph), *kept_names(graph))} | {name: "int" for name in layers}
    # a head whose weight is an embedding's too is read under its name and a number
    are |= {plain: are[name] for name in tuple(are) if (plain := NUMBER.sub("", name)) not in are}
    recipe.require_matches(are)
    for name, precision in are.items():
        wish = recipe.layer(name)
        if wish.why and wish.precision != precision:
            wanted = f"{what} has {name} in {precision}"
            raise UsageError(f"{wanted}; {wish.why}, in {wish.precision}; leave that out, or quantize the float model")


def adopt(graph: fx.GraphModule) -> None:
    """Notes on a graph that was quantized elsewhere, and read, that it was, and which linears are in float."""
    keep_float(graph, "its quantizer left it in float")
    graph.meta[ELSEWHERE] = True
    graph.meta.setdefault(QUANTIZER, UNKNOWN)


def as_there(recipe: Recipe, graph: fx.GraphModule) -> Recipe:
    """→ the recipe by which a graph that was quantized elsewhere is lowered: what it has in float is computed in
    float32, and exactly, so that it answers as where it came from. Its scheme is the graph's own."""
    attention = "fp" if recipe.attention == "auto" else recipe.attention
    without, layers = (*recipe.without, *sorted(APPROXIMATE)), quantized_of(graph)
    scheme = scheme_of(layers.values()) if layers else recipe.scheme
    return replace(recipe, attention=attention, without=without, scheme=scheme)


def _require_no_settings(recipe: Recipe, who: str, settings: tuple[str, ...] = SETTINGS) -> None:
    """Raises UsageError if the recipe says how to quantize, to a quantizer or graph that goes by itself."""
    odd = next((setting for setting in settings if getattr(recipe, setting) != getattr(Recipe, setting)), None)
    if odd:
        raise UsageError(f"{who} goes by settings of its own; got {odd} {getattr(recipe, odd)!r}; leave that out")
    for rule in recipe.rules:
        how = (rule.scheme, rule.symmetric, rule.activation_bits, rule.weight_bits)
        if rule.precision == "bf16" or any(value is not None for value in how):
            wanted = f"{who} takes rules of precision fp or int alone"
            raise UsageError(f"{wanted}; the one for {rule.match!r} says more; leave that out")
