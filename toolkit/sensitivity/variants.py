"""One captured model in many precisions: graphs that differ in which linears are quantized."""

import copy
import glob
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import fx

from targets._place import quiet_copies
from targets.base import UsageError
from toolkit.calibrate import Batches, Progress, require_data
from toolkit.integers import Prepared, prepare, round_all, to_int
from toolkit.pipeline import lowered
from toolkit.quantize import chosen, linears_of
from toolkit.recipe import Recipe, Rule
from toolkit.share import aliases

# a repaired linear: in float, or in 8 bits with two terms for its activations, or for its weights as well
KEEP_AS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "fp": {"precision": "fp"},
    "int16": {"activation_bits": 16, "weight_bits": 16},
}


@dataclass(frozen=True)
class Variants:
    """graph: float, smoothed and rotated where the recipe and data say so; recipe: for int; target: its name; keep_as:
    what a linear that is repaired becomes, one of KEEP_AS; names: the linears that the recipe quantizes, which are
    those to choose from; prepared: what calibration data told, once for all variants; source, data: the float graph as
    it came, and what to calibrate with, for a recipe by itself."""

    graph: fx.GraphModule
    recipe: Recipe
    target: str
    keep_as: str
    names: tuple[str, ...]
    prepared: Prepared
    source: fx.GraphModule
    data: Batches | None = None

    @classmethod
    def of(
        cls,
        graph: fx.GraphModule,
        recipe: Recipe,
        target: str,
        keep_as: str,
        data: Batches | None = None,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> "Variants":
        """graph: float, as pipeline.captured makes it; data, folder, progress: as `transform` takes them. Raises
        UsageError when the recipe is not for int, quantizes nothing, wants data, or has a scheme that `keep_as` is not
        for."""
        if recipe.precision != "int":
            raise UsageError(f"what int costs was to be measured; the precision is {recipe.precision!r}; make it int")
        require_data(recipe, data)
        recipe.require_matches(linears_of(graph))
        names = tuple(chosen(graph, recipe))
        if not names:
            raise UsageError("the recipe quantizes no linear of this model: there is nothing to measure; change it")
        with_rules(recipe, keep_as, names)  # a repair that the recipe's scheme has no room for is refused now
        smoothed = copied(graph)
        prepared = prepare(smoothed, recipe, data, folder, progress)
        prepared.scratch.clear()
        return cls(smoothed, recipe, target, keep_as, names, prepared, graph, data)

    def whole(self) -> fx.GraphModule:
        """→ all linears as the recipe says"""
        return self.finished(self.recipe)

    def none(self) -> fx.GraphModule:
        """→ all linears in float, on the target"""
        return self.finished(replace(self.recipe, rules=(Rule("*", "fp"),)))

    def alone(self, name: str) -> fx.GraphModule:
        """→ the linear called `name` as the recipe says, all others in float"""
        layer = self.recipe.layer(name)
        bits = layer.activation_bits, layer.weight_bits
        only = Rule(exactly(name), "int", layer.scheme, layer.symmetric, *bits)
        return self.finished(replace(self.recipe, rules=(only, Rule("*", "fp"))))

    def without(self, names: Collection[str]) -> fx.GraphModule:
        """→ all linears as the recipe says, but those called `names` repaired"""
        return self.finished(self.repaired(names))

    def applied(self, names: Collection[str]) -> fx.GraphModule:
        """→ the same as `transform` makes it of the recipe: what data tell is found anew, for the linears in 8 bits"""
        graph, recipe = copied(self.source), self.repaired(names)
        to_int(graph, recipe, self.data)
        return lowered(graph, recipe, self.target, native=False)

    def repaired(self, names: Iterable[str]) -> Recipe:
        """→ the recipe with a rule in front for each of `names`, sorted"""
        return with_rules(self.recipe, self.keep_as, names)

    def finished(self, recipe: Recipe) -> fx.GraphModule:
        """→ the model by another recipe, on the same target: by its own modules, as a machine without its device has
        them. A device that runs exported files would have each compiled, for minutes."""
        graph = copied(self.graph)
        round_all(graph, recipe, self.prepared)
        return lowered(graph, recipe, self.target, native=False)


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """→ a copy over the same memory, that a target may move to its device"""
    with quiet_copies():
        return copy.deepcopy(graph, aliases(graph))


def with_rules(recipe: Recipe, keep_as: str, names: Iterable[str]) -> Recipe:
    """→ the recipe with a rule in front for each of `names`, sorted, that repairs it"""
    rules = tuple(Rule(exactly(name), **KEEP_AS[keep_as]) for name in sorted(names))
    return replace(recipe, rules=(*rules, *recipe.rules))


def exactly(name: str) -> str:
    """→ the shell pattern that matches `name` alone"""
    return glob.escape(name)
