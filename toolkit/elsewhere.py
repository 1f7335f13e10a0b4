"""What a recipe says to a quantizer that isn't this project's own."""

from torch import fx

from targets.base import UsageError
from toolkit.calibrate import Batches
from toolkit.quantizers import NATIVE, Accuracy, How, quantize_with, require_installed
from toolkit.raising import linear_names
from toolkit.recipe import Recipe
from toolkit.report import QUANTIZER, keep


def quantize_elsewhere(
    graph: fx.GraphModule, recipe: Recipe, data: Batches | None, accuracy: Accuracy | None
) -> fx.GraphModule:
    """graph: float, its linears not raised yet → the Q/DQ graph that the recipe's quantizer makes of it

    What the recipe keeps in float is not quantized, and noted. Raises UsageError as quantize_with does, and for a
    pattern that matches no linear.
    """
    layers = {name: recipe.layer(name) for name in linear_names(graph)}
    recipe.require_matches(layers)
    floats = {name: str(layer.why) for name, layer in layers.items() if layer.precision != "int"}
    made = quantize_with(recipe.quantizer, graph, How(recipe.scheme == "dynamic", tuple(floats)), data, accuracy)
    for name, why in floats.items():
        keep(made, name, why)
    made.meta[QUANTIZER] = require_installed(recipe.quantizer)
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
    asked = {"symmetric": recipe.symmetric, "clip": recipe.clip, "ranges": recipe.ranges != Recipe.ranges}
    asked["percentile"] = recipe.percentile != Recipe.percentile
    odd = next((setting for setting, chosen in asked.items() if chosen), None)
    if odd:
        got = f"{odd} {getattr(recipe, odd)!r}"
        raise UsageError(f"quantizer {name} goes by settings of its own; got {got}; leave that out")
    for rule in recipe.rules:
        how = (rule.scheme, rule.symmetric, rule.activation_bits, rule.weight_bits)
        if rule.precision == "bf16" or any(value is not None for value in how):
            wanted = f"quantizer {name} takes rules of precision fp or int alone"
            raise UsageError(f"{wanted}; the one for {rule.match!r} says more; leave that out")
