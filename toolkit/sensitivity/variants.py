"""One captured model in many precisions: graphs that differ in which linears are quantized."""

import copy
import glob
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from torch import fx

from targets.base import UsageError
from toolkit.pipeline import finish
from toolkit.quantize import linears_of
from toolkit.recipe import Recipe, Rule
from toolkit.report import report_of


@dataclass(frozen=True)
class Variants:
    """graph: float, as pipeline.captured makes it; recipe: for int; target: its name; keep_as: what a linear that is
    repaired becomes, "bf16" or "fp"; names: the linears that the recipe quantizes, which are those to choose from."""

    graph: fx.GraphModule
    recipe: Recipe
    target: str
    keep_as: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, graph: fx.GraphModule, recipe: Recipe, target: str, keep_as: str) -> "Variants":
        """Raises UsageError when the recipe is not for int or quantizes nothing."""
        if recipe.precision != "int":
            raise UsageError(f"what int costs was to be measured; the precision is {recipe.precision!r}; make it int")
        whole = finish(copied(graph), recipe, target)
        kept = {entry["name"] for entry in report_of(whole).kept}
        names = tuple(name for name in linears_of(graph) if name not in kept)
        if not names:
            raise UsageError("the recipe quantizes no linear of this model: there is nothing to measure; change it")
        return cls(graph, recipe, target, keep_as, names)

    def whole(self) -> fx.GraphModule:
        """→ all linears as the recipe says"""
        return self.finished(self.recipe)

    def none(self) -> fx.GraphModule:
        """→ all linears in float, on the target"""
        return self.finished(replace(self.recipe, rules=(Rule("*", "fp"),)))

    def alone(self, name: str) -> fx.GraphModule:
        """→ the linear called `name` as the recipe says, all others in float"""
        layer = self.recipe.layer(name)
        only = Rule(exactly(name), "int", layer.scheme, layer.symmetric)
        return self.finished(replace(self.recipe, rules=(only, Rule("*", "fp"))))

    def without(self, names: Collection[str]) -> fx.GraphModule:
        """→ all linears as the recipe says, but those called `names` repaired"""
        return self.finished(self.repaired(names))

    def repaired(self, names: Iterable[str]) -> Recipe:
        """→ the recipe with a rule in front for each of `names`, sorted"""
        rules = tuple(Rule(exactly(name), self.keep_as) for name in sorted(names))
        return replace(self.recipe, rules=(*rules, *self.recipe.rules))

    def finished(self, recipe: Recipe) -> fx.GraphModule:
        """→ the model by another recipe, on the same target"""
        return finish(copied(self.graph), recipe, self.target)


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """→ a copy over the same weights"""
    with warnings.catch_warnings():  # copying how the graph is called asks torch for something that it calls outdated
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        return copy.deepcopy(graph, {id(tensor): tensor for tensor in (*graph.parameters(), *graph.buffers())})


def exactly(name: str) -> str:
    """→ the shell pattern that matches `name` alone"""
    return glob.escape(name)
