"""What makes 8 bits lose less, around `quantize`: `equalize` before it, on the float graph, `refine` after it."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx, nn

from operators import weight_sum
from targets._linear import QuantizedLinear
from targets._pages import let_go
from targets._weight import WeightLinear
from toolkit.calibrate import Batches, Progress, Scratch
from toolkit.equalize.clip import clip
from toolkit.equalize.correct import correction
from toolkit.equalize.observe import Moments, observe
from toolkit.equalize.rotate import rotate
from toolkit.equalize.rounding import compensate
from toolkit.equalize.smooth import smooth
from toolkit.equalize.stored import NOTHING, Found, Rounding, Stored, fitting, how_of, key_of
from toolkit.recipe import Layer, Recipe

__all__ = ["Equalized", "equalize", "refine", "rounding_of"]

NO_DATA = "no calibration data"
Rounded = QuantizedLinear | WeightLinear


@dataclass(frozen=True)
class Equalized:
    """linears: the float linears as `quantize` gets them; moments: what each reads, empty without data; stored: what
    was found for it before, where there is no data now; applied: for each step that the recipe asks for, on how many
    linears it was done, or why not; weights, shifts: integers and scales, and what was added to the biases, that
    `refine` made once, for whoever rounds the same linears again."""

    linears: dict[str, nn.Linear]
    moments: Mapping[str, Moments]
    stored: Found
    applied: dict[str, int | str] = field(default_factory=dict)
    weights: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)


def equalize(
    graph: fx.GraphModule,
    recipe: Recipe,
    names: Collection[str],
    data: Batches | None = None,
    origin: str | None = None,
    scratch: Scratch | None = None,
    progress: Progress | None = None,
) -> Equalized:
    """Smooths and rotates the captured float graph, in place, where the recipe says so; then observes what the linears
    read.

    names: the linears that are going to be quantized. data: calibration batches, iterable twice; without it nothing is
    smoothed, and `refine` does what needs no data, or what was stored in `origin`, a model's folder. scratch, progress:
    as `observe` takes them. Raises UsageError when data has no batch.
    """
    applied: dict[str, int | str] = {}
    if recipe.smooth:
        done = {} if data is None else smooth(graph, observe(graph, data, names, False, scratch, progress), recipe)
        applied["smooth"] = NO_DATA if data is None else len(done)
    if recipe.rotate:
        applied["rotate"] = rotate(graph, names, recipe)
    moments: dict[str, Moments] = {}
    if data is not None and (recipe.clip or recipe.compensate or recipe.correct_bias):
        moments = observe(graph, data, names, recipe.compensate, scratch, progress)
    linears: dict[str, nn.Linear] = {name: graph.get_submodule(name) for name in names}  # type: ignore[misc]
    found = fitting(origin, linears, recipe) if data is None else NOTHING
    return Equalized(linears, moments, found, applied)


def refine(graph: fx.GraphModule, equalized: Equalized, recipe: Recipe) -> dict[str, int | str]:
    """Rounds the weights of the quantized linears anew and corrects their biases, where the recipe says so, in place.

    → for each step of the recipe, `smooth` too, how many linears it was done on, or why it was not
    """
    done = {"clip": 0, "compensate": 0, "correct_bias": 0}
    for name in equalized.linears:
        module, how = graph.get_submodule(name), recipe.layer(name)
        if not isinstance(module, Rounded):
            continue
        known = name in equalized.moments or name in equalized.stored.linears
        if how.weight_bits == 8:  # of 16, the second term takes what the first leaves
            if name not in equalized.weights:
                equalized.weights[name] = _integers(module, name, equalized, recipe)
            module.weight, module.scale = equalized.weights[name]
            done["clip"], done["compensate"] = done["clip"] + 1, done["compensate"] + known
        if isinstance(module, QuantizedLinear):
            module.weight_sum = weight_sum(module.weight)
        shift = _shift(module, name, equalized, how) if recipe.correct_bias else None
        if shift is not None:
            equalized.shifts[name] = shift
            module.bias = shift if module.bias is None else module.bias + shift
            done["correct_bias"] += 1
        let_go(equalized.linears[name].weight)
    applied, without = dict(equalized.applied), not equalized.moments and not equalized.stored.linears
    for step, count in done.items():
        if getattr(recipe, step):
            applied[step] = NO_DATA if step != "clip" and without else count
    return applied


def rounding_of(equalized: Equalized, recipe: Recipe, data: dict[str, object]) -> Stored:
    """equalized: by data, not smoothed, after `refine`; data: file and samples → what `write` keeps of it, but for
    linears of which two have the same weights, and maybe not the same inputs"""
    both = sorted(equalized.weights.keys() & equalized.shifts.keys())
    keys = {name: key_of(equalized.linears[name]) for name in both}
    twice = {key for key, times in Counter(keys.values()).items() if times > 1}
    found = {
        key: Rounding(*equalized.weights[name], equalized.shifts[name], how_of(recipe.layer(name)))
        for name, key in keys.items()
        if key not in twice
    }
    return Stored(found, {key: name for name, key in keys.items() if key in found}, recipe.clip, data)


def _integers(module: Rounded, name: str, equalized: Equalized, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """→ int8 [N, K] and scale float32 [N] of the weight of the linear `name`, rounded anew"""
    if name in equalized.stored.linears:
        return equalized.stored.linears[name].weight, equalized.stored.linears[name].scale
    weight, seen = equalized.linears[name].weight.detach().float(), equalized.moments.get(name)
    q, scale = module.weight, module.scale
    if recipe.clip:
        q, scale = clip(weight, None if seen is None else seen.square())
    if recipe.compensate and seen is not None:
        q = compensate(weight, scale, seen.hessian())
    return q, scale


def _shift(module: Rounded, name: str, equalized: Equalized, how: Layer) -> Tensor | None:
    """→ what the bias of the linear `name` lacks, float32 [N]; None where nothing says so"""
    stored, seen = equalized.stored.linears.get(name), equalized.moments.get(name)
    if stored is not None:  # of these integers, and of activations that are rounded in this way
        return stored.shift if how.weight_bits == 8 and stored.how == how_of(how) else None  # a variant's may be 16
    if seen is None:
        return None
    weight = equalized.linears[name].weight.detach().float()
    near = module.weight.float() * module.scale[:, None] if how.weight_bits == 8 else weight
    return correction(weight, near, seen, how)
