"""What was asked for and what came of it; a transformed graph carries its report."""

from dataclasses import asdict, dataclass

from torch import fx

from targets.base import Execution, Target
from toolkit.recipe import Recipe

KEY = "opswap_report"
KEPT = "opswap_kept"


@dataclass(frozen=True)
class Report:
    """target: requested, executed, native, device, isa, reason. swapped: linears swapped, by unique name.
    kept: {"name", "why"} of each linear that stays in float; swapped + len(kept) is the number of linears.
    fused: how often each fusion was applied. equalized: for each step of toolkit/equalize that was asked for, on how
    many linears it was done, or why not."""

    target: dict[str, object]
    precision: str
    scheme: str
    swapped: int
    kept: tuple[dict[str, str], ...]
    fused: dict[str, int]
    equalized: dict[str, int | str]

    def as_json(self) -> dict[str, object]:
        """→ plain dicts, lists, strings, numbers and booleans"""
        return {**asdict(self), "kept": [dict(entry) for entry in self.kept]}


def keep(graph: fx.GraphModule, name: str, why: str) -> None:
    """Notes, on the graph, that the linear called `name` stays in float, and why; once a name."""
    kept: dict[str, str] = graph.meta.setdefault(KEPT, {})
    kept.setdefault(name, why)


def attach(
    graph: fx.GraphModule,
    recipe: Recipe,
    target: Target,
    execution: Execution,
    swapped: int,
    fused: dict[str, int],
    equalized: dict[str, int | str],
) -> Report:
    """Makes the report from what the stages noted on the graph, and puts it there."""
    kept = tuple({"name": name, "why": why} for name, why in sorted(graph.meta.pop(KEPT, {}).items()))
    described: dict[str, object] = {"requested": target.name, **asdict(execution)}
    report = Report(described, recipe.precision, recipe.scheme, swapped, kept, fused, equalized)
    graph.meta[KEY] = report
    return report


def report_of(graph: fx.GraphModule) -> Report:
    """→ the report of a graph that `transform` returned. Raises ValueError for any other graph."""
    report = graph.meta.get(KEY)
    if not isinstance(report, Report):
        raise ValueError("report_of wants a graph that transform returned; this one carries no report; transform it")
    return report
