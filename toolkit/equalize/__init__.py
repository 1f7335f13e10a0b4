"""What makes 8 bits lose less, around `quantize`: `equalize` before it, on the float graph, `refine` after it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx, nn

from operators import weight_sum
from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from toolkit.equalize.clip import clip
from toolkit.equalize.correct import correction
from toolkit.equalize.observe import Batch, Moments, observe
from toolkit.equalize.rounding import compensate
from toolkit.equalize.smooth import smooth
from toolkit.recipe import Layer, Recipe

__all__ = ["Equalized", "equalize", "refine"]

NO_DATA = "no calibration data"
Rounded = QuantizedLinear | WeightLinear


@dataclass(frozen=True)
class Equalized:
    """linears: the float linears as `quantize` gets them; moments: what each reads, empty without data; applied: for
    each step that the recipe asks for, on how many linears it was done, or why not; weights: integers and scales that
    `refine` made once, for whoever rounds the same linears again."""

    linears: dict[str, nn.Linear]
    moments: Mapping[str, Moments]
    applied: dict[str, int | str] = field(default_factory=dict)
    weights: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def equalize(
    graph: fx.GraphModule, recipe: Recipe, names: Collection[str], data: Iterable[Batch] | None = None
) -> Equalized:
    """Smooths the captured float graph, in place, where the recipe says so; then observes what the linears read.

    names: the linears that are going to be quantized. data: calibration batches, iterable twice; without it nothing is
    smoothed and `refine` does only what needs no data. Raises UsageError when data has no batch.
    """
    applied: dict[str, int | str] = {}
    if recipe.smooth:
        done = {} if data is None else smooth(graph, observe(graph, data, names), recipe)
        applied["smooth"] = NO_DATA if data is None else len(done)
    moments: dict[str, Moments] = {}
    if data is not None and (recipe.clip or recipe.compensate or recipe.correct_bias):
        moments = observe(graph, data, names, square=recipe.compensate)
    linears = {name: graph.get_submodule(name) for name in names}
    return Equalized(linears, moments, applied)  # type: ignore[arg-type]


def refine(graph: fx.GraphModule, equalized: Equalized, recipe: Recipe) -> dict[str, int | str]:
    """Rounds the weights of the quantized linears anew and corrects their biases, where the recipe says so, in place.

    → for each step of the recipe, `smooth` too, how many linears it was done on, or why it was not
    """
    quantized = {name: graph.get_submodule(name) for name in equalized.linears}
    found = {name: m for name, m in quantized.items() if isinstance(m, Rounded)}
    for name, module in found.items():
        how = recipe.layer(name)
        if how.weight_bits == 8:  # of 16, the second term takes what the first leaves
            if name not in equalized.weights:
                equalized.weights[name] = _integers(
                    module, equalized.linears[name], equalized.moments.get(name), recipe
                )
            module.weight, module.scale = equalized.weights[name]
        if isinstance(module, QuantizedLinear):
            module.weight_sum = weight_sum(module.weight)
        if recipe.correct_bias and name in equalized.moments:
            _correct(module, equalized.linears[name], equalized.moments[name], how)
    applied, seen = dict(equalized.applied), equalized.moments
    anew = [name for name in found if recipe.layer(name).weight_bits == 8]
    for step, done in (("clip", anew), ("compensate", anew), ("correct_bias", found)):
        if getattr(recipe, step):
            applied[step] = NO_DATA if step != "clip" and not seen else len(done)
    return applied


def _integers(module: Rounded, linear: nn.Linear, seen: Moments | None, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """→ int8 [N, K] and scale float32 [N] of the weight of `linear`, rounded anew"""
    weight = linear.weight.detach().float()
    q, scale = module.weight, module.scale
    if recipe.clip:
        q, scale = clip(weight, None if seen is None else seen.square())
    if recipe.compensate and seen is not None:
        q = compensate(weight, scale, seen.hessian())
    return q, scale


def _correct(module: Rounded, linear: nn.Linear, seen: Moments, how: Layer) -> None:
    weight = linear.weight.detach().float()
    near = module.weight.float() * module.scale[:, None] if how.weight_bits == 8 else weight
    shift = correction(weight, near, seen, how)
    module.bias = shift if module.bias is None else module.bias + shift
