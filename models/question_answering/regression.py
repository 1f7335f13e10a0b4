"""Two evaluations of the same questions against each other: how far F1 fell, how surely, and on which questions."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.errors import InputError
from models.outside import require_characters
from models.question_answering.examples import Example, read_text
from models.question_answering.metrics import normalize, scores
from targets._json import parse_json

RESAMPLES, CONFIDENCE, SEED = 10_000, 0.95, 0
SHOWN = 10  # questions in `most_changed`
SAME = 1e-6  # F1 points: what summing in another order may change


@dataclass(frozen=True)
class Baseline:
    """A saved report of eval. path: where it lies; f1 in points; data, total: the file's name and how many questions,
    None where the report doesn't say; answers: question id → text, None in a report without them."""

    path: str
    f1: float
    data: str | None
    total: int | None
    answers: dict[str, str] | None


@dataclass(frozen=True)
class Change:
    """One question whose answer is another now. gold: the reference answers; F1 scores from 0 to 1."""

    id: str
    question: str
    gold: tuple[str, ...]
    before: str
    after: str
    f1_before: float
    f1_after: float


@dataclass(frozen=True)
class Regression:
    """drop: baseline's F1 − ours, in points; interval: of the drop, by the paired bootstrap (`drop_interval`).

    Without the baseline's answers there is no pairing: interval, equal_answers and most_changed are None then, and
    `unpaired` says why.
    """

    baseline_f1: float
    drop: float
    interval: tuple[float, float] | None
    equal_answers: int | None
    most_changed: tuple[Change, ...] | None
    unpaired: str | None

    def as_json(self) -> dict[str, Any]:
        """→ plain dicts, lists, strings and numbers"""
        found = asdict(self)
        if self.interval is not None:
            found["bootstrap"] = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED}
        return found


def read_baseline(path: str) -> Baseline:
    """A report as `--json eval` printed it. Raises InputError for any other file."""
    try:
        report = parse_json(read_text(path))
        f1, total, answers = report["f1"], report.get("total"), report.get("answers")
        if type(f1) not in (int, float) or not math.isfinite(f1) or type(total) not in (int, type(None)):
            raise TypeError(f"f1 is {f1!r}, total is {total!r}")
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no report of eval (wanted the number 'f1', 'total' a whole one): save one with --json eval"
        ) from error
    whole = answers is None or (isinstance(answers, dict) and all(isinstance(text, str) for text in answers.values()))
    if not whole:
        raise InputError(f"the 'answers' in {path} are no texts by question: save the report again with --json eval")
    for id, text in (answers or {}).items():
        require_characters(text, f"{path}: the answer to {id!r}")
    return Baseline(path, float(f1), report.get("data"), total, answers)


def require_same_questions(baseline: Baseline, data: str, examples: Sequence[Example]) -> None:
    """Raises InputError when the baseline was made on other questions, as far as its report can tell.

    The questions' ids decide; a report without answers is held to the file's name and the number of questions.
    """
    advice = "make the baseline with the same --data and --limit"
    if baseline.answers is not None:
        asked = {example.id for example in examples}
        missing, strange = asked - baseline.answers.keys(), baseline.answers.keys() - asked
        if missing or strange:
            raise InputError(
                f"{baseline.path} answers other questions than {data} asks ({len(missing)} of {len(asked)} are not in "
                f"it, {len(strange)} of its own are not asked): {advice}"
            )
        again = 100 * sum(_f1_scores(examples, baseline.answers)) / len(examples)
        if abs(again - baseline.f1) > SAME:
            raise InputError(
                f"{baseline.path} says F1 {baseline.f1:.3f}, its answers score {again:.3f} on {data}: the reference "
                f"answers are others, or the report was changed; {advice}"
            )
        return
    if baseline.total not in (None, len(examples)) or baseline.data not in (None, data):
        raise InputError(
            f"{baseline.path} is of {baseline.total} questions of {baseline.data}, "
            f"this is {len(examples)} of {data}: {advice}"
        )


def compare(baseline: Baseline, examples: Sequence[Example], answers: dict[str, str], f1: float) -> Regression:
    """answers: ours, question id → text; f1: ours, in points. The baseline is one of the same questions."""
    drop = baseline.f1 - f1
    if baseline.answers is None:
        why = f"{baseline.path} holds no answers, so its questions can't be paired with these"
        return Regression(baseline.f1, drop, None, None, None, why)
    old = baseline.answers
    before, after = _f1_scores(examples, old), _f1_scores(examples, answers)
    changes = [
        Change(e.id, e.question, _gold(e), old[e.id], answers[e.id], was, now)
        for e, was, now in zip(examples, before, after, strict=True)
        if old[e.id] != answers[e.id]
    ]
    # Where two changed as much, what got worse comes first.
    changes.sort(key=lambda change: (-abs(change.f1_after - change.f1_before), change.f1_after - change.f1_before))
    interval = drop_interval(before, after)
    return Regression(baseline.f1, drop, interval, len(examples) - len(changes), tuple(changes[:SHOWN]), None)


def drop_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """The paired bootstrap's percentile interval of 100 · (mean of before − mean of after), at CONFIDENCE.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; pairs are drawn together, as Koehn 2004
    does for translation. A resample's mean depends only on how often each distinct difference was drawn, and those
    counts are multinomial: they are drawn in one go, the same numbers every time (SEED).
    """
    differences, counts = np.unique(np.asarray(before) - np.asarray(after), return_counts=True)
    total = int(counts.sum())
    drawn = np.random.default_rng(SEED).multinomial(total, counts / total, size=RESAMPLES)
    low, high = np.quantile(100 * (drawn @ differences) / total, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _f1_scores(examples: Sequence[Example], answers: dict[str, str]) -> list[float]:
    version_2 = any(not example.answers for example in examples)
    return [scores(example, answers[example.id], version_2)[1] for example in examples]


def _gold(example: Example) -> tuple[str, ...]:
    """→ the reference answers, each once; those that the scores can't tell apart count as one"""
    return tuple({normalize(text): text for text, _ in reversed(example.answers)}.values())[::-1]
