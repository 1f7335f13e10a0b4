"""The fewest multiply-adds in float that reach a goal: an order to begin with, and measurements to decide."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

Missed = Callable[[Sequence[str]], float]  # linears kept in float → by how much the goal is missed


@dataclass(frozen=True)
class Score:
    """f1: 0 to 100; drop: of F1 points under float (below 0: better than float); equal: percent of the answers that
    are float's, to the letter; changed: how many are not."""

    f1: float
    drop: float
    equal: float
    changed: int


@dataclass(frozen=True)
class Goal:
    """max_drop: F1 points; min_equal: percent of the answers, None: any."""

    max_drop: float
    min_equal: float | None = None

    def missed_by(self, score: Score) -> float:
        """→ 0 where `score` reaches the goal, else what is missing, F1 points and percent of answers added up"""
        short = 0.0 if self.min_equal is None else max(self.min_equal - score.equal, 0.0)
        return max(score.drop - self.max_drop, 0.0) + short


@dataclass(frozen=True)
class Found:
    """names: the linears to keep; score: what was measured with them; reached: whether that is the goal; tried: every
    set that was measured, in order, with its score."""

    names: tuple[str, ...]
    score: Score
    reached: bool
    tried: tuple[tuple[tuple[str, ...], Score], ...]


def search(
    work: Mapping[str, float],
    harm: Mapping[str, float],
    evaluate: Callable[[Collection[str]], Score],
    goal: Goal,
) -> Found:
    """work: share of the multiply-adds, harm: any measure of the error, of each linear by name; evaluate(names): the
    measured score with those linears kept in float.

    Linears are taken in the order of harm for their work. Bisection finds the shortest beginning of that order that
    measures up to the goal; then each of it, most work first, goes back to 8 bits if the goal is still reached. A goal
    that all of them do not reach: the best of what was measured, which includes quarters of the order; less work wins
    a tie.
    """
    order = sorted(harm, key=lambda name: (-harm[name] / max(work[name], 1e-12), name))
    tried: dict[tuple[str, ...], Score] = {}

    def missed(names: Sequence[str]) -> float:
        key = tuple(sorted(names))
        if key not in tried:
            tried[key] = evaluate(key)
        return goal.missed_by(tried[key])

    if missed([]) == 0:
        best: tuple[str, ...] = ()
    elif missed(order) > 0:
        for end in sorted({math.ceil(len(order) * quarter / 4) for quarter in (1, 2, 3)}):
            missed(order[:end])
        best = min(tried, key=lambda key: (goal.missed_by(tried[key]), sum(work[name] for name in key)))
    else:
        few, enough = 0, len(order)
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if missed(order[:middle]) == 0 else (middle, enough)
        best = _pruned(order[:enough], work, missed)
    return Found(best, tried[best], goal.missed_by(tried[best]) == 0, tuple(tried.items()))


def confirmed(
    found: Found,
    work: Mapping[str, float],
    evaluate: Callable[[Collection[str]], Score],
    goal: Goal,
    most: int = 3,
) -> Found:
    """found: by graphs that share what calibration data told; evaluate(names): the score of the recipe that keeps those
    linears, calibrated by itself, as whoever uses it has it → the first of at most `most` sets that reached the goal
    which does so by itself, least work first; the best of them where none does."""
    fitting = [names for names, score in found.tried if goal.missed_by(score) == 0] if found.reached else [found.names]
    measured: dict[tuple[str, ...], Score] = {}
    for names in sorted(fitting, key=lambda names: (sum(work[name] for name in names), names))[:most]:
        measured[names] = evaluate(names)
        if goal.missed_by(measured[names]) == 0:
            break
    best = min(measured, key=lambda names: (goal.missed_by(measured[names]), sum(work[name] for name in names)))
    return Found(best, measured[best], goal.missed_by(measured[best]) == 0, found.tried)


def _pruned(names: Sequence[str], work: Mapping[str, float], missed: Missed) -> tuple[str, ...]:
    """→ `names` without those that the goal is reached without"""
    kept = list(names)
    for name in sorted(names, key=lambda name: (-work[name], name)):
        fewer = [other for other in kept if other != name]
        if missed(fewer) == 0:
            kept = fewer
    return tuple(sorted(kept))
