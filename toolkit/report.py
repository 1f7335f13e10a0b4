"""What was asked for and what came of it; a transformed graph carries its report."""

from dataclasses import asdict, dataclass

from torch import fx

from targets._fused import COUNTED
from targets._missed import missed
from targets.base import Execution, Target
from toolkit.recipe import Recipe

KEY = "opswap_report"
KEPT = "opswap_kept"
CALIBRATED = "opswap_calibrated"
QUANTIZER = "opswap_quantizer"
EQUALIZED = "opswap_equalized"
TERMS = "opswap_terms"
ELSEWHERE = "opswap_elsewhere"  # another quantizer made the graph
WEIGHTS = "opswap_weights"  # of a graph, and of a float model: where its weights were integers
FROM_INT8 = "8-bit integers, read as floats"


@dataclass(frozen=True)
class Report:
    """target: requested, executed, native, device, isa, reason. scheme: that of all linears that were swapped, or
    where they have several, the recipe's for those that no rule is for; schemes: how many have each, at int. swapped:
    linears swapped, by unique name. kept: {"name", "precision", "why"} of each linear that stays in float, as "fp",
    "bf16" or "fp16"; swapped + len(kept) is the number of linears. fused: how often each fusion was applied.
    calibration: how static ranges were found, or what was stored with the model and used; None where there is
    neither. equalized: for each step of toolkit/equalize that was asked for, on how many linears it was done, or why
    not. quantizer: who quantized, with the version of another's package. terms: the linears of 16 bits, and the names
    of those that their second terms became; these don't count as swapped. weights: FROM_INT8 where float weights are
    what a quantized folder's integers stand for, None for all others. missed: what fusions left alone, and steps of
    cuda's that could not be captured: {"what", "why", "names"}, of the graph's nodes or itself."""

    target: dict[str, object]
    precision: str
    scheme: str
    schemes: dict[str, int]
    swapped: int
    kept: tuple[dict[str, str], ...]
    fused: dict[str, int]
    calibration: dict[str, object] | None
    equalized: dict[str, int | str]
    quantizer: str
    terms: dict[str, list[str]]
    weights: str | None
    missed: tuple[dict[str, object], ...]

    def as_json(self) -> dict[str, object]:
        """→ plain dicts, lists, strings, numbers and booleans"""
        found = asdict(self)
        return {**found, **{name: list(found[name]) for name in ("kept", "missed")}}


def keep(graph: fx.GraphModule, name: str, why: str, precision: str = "fp") -> None:
    """Notes, on the graph, that the linear called `name` stays in float, in which, and why; once a name."""
    kept: dict[str, dict[str, str]] = graph.meta.setdefault(KEPT, {})
    kept.setdefault(name, {"name": name, "precision": precision, "why": why})


def kept_names(graph: fx.GraphModule) -> tuple[str, ...]:
    """→ the linears that are noted as kept so far"""
    return tuple(graph.meta.get(KEPT, {}))


def extra_terms(graph: fx.GraphModule) -> set[str]:
    """→ the linears of the graph that are second terms of others"""
    return {name for names in graph.meta.get(TERMS, {}).values() for name in names}


def attach(
    graph: fx.GraphModule,
    recipe: Recipe,
    target: Target,
    execution: Execution,
    swapped: int,
    fused: dict[str, int],
    schemes: dict[str, int],
) -> Report:
    """schemes: as Report has it. Makes the report from what the stages noted on the graph, and puts it there."""
    whole = {} if recipe.precision in ("int", "fp8") else {"precision": recipe.precision}  # 8 bits keep float32
    kept = tuple({**entry, **whole} for _, entry in sorted(graph.meta.pop(KEPT, {}).items()))
    described: dict[str, object] = {"requested": target.name, **asdict(execution)}
    found, equalized = graph.meta.pop(CALIBRATED, None), graph.meta.pop(EQUALIZED, {})
    quantizer = graph.meta.pop(QUANTIZER, recipe.quantizer)
    terms, weights = graph.meta.pop(TERMS, {}), graph.meta.pop(WEIGHTS, None)
    counts = fused | {name: fused.get(name, 0) + count for name, count in graph.meta.pop(COUNTED, {}).items()}
    scheme = next(iter(schemes)) if len(schemes) == 1 else recipe.scheme
    report = Report(described, recipe.precision, scheme, schemes, swapped, kept, counts, found, equalized, quantizer,
                    terms, weights, missed(graph))  # fmt: skip
    graph.meta[KEY] = report
    return report


def report_of(graph: fx.GraphModule) -> Report:
    """→ the report of a graph that `transform` returned. Raises ValueError for any other graph."""
    report = graph.meta.get(KEY)
    if not isinstance(report, Report):
        raise ValueError("report_of wants a graph that transform returned; this one carries no report; transform it")
    return report
