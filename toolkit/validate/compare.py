"""Two of the measured, one as the reference: how near they are, and whether that is near enough."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from targets.base import UsageError
from toolkit.sensitivity.fidelity import Fidelity
from toolkit.validate.measure import Measured

CHANGED = 5  # answers that differ and are shown


@dataclass(frozen=True)
class Limits:
    """The least that passes: SQNR in dB, cosine, share of equal answers (0 to 1)."""

    sqnr_db: float
    cosine: float
    answers_equal: float


# By what the embedded model and BERT-like models with random weights give on the targets here, with room for others.
LIMITS = {
    "fp": Limits(80, 0.999999, 0.99),
    "fp16": Limits(45, 0.9999, 0.98),
    "bf16": Limits(35, 0.999, 0.93),
    "int": Limits(20, 0.99, 0.85),
    "fp8": Limits(18, 0.98, 0.8),
}


@dataclass(frozen=True)
class Pair:
    """sqnr_db: None where nothing differs, or where it is no number (`failed` says which); answers_equal: the share
    of `answers`, None where the task has none; changed: the first that differ; failed: what was missed, in words."""

    reference: str
    target: str
    sqnr_db: float | None
    cosine: float | None
    max_abs: float | None
    answers_equal: float | None
    answers: int
    changed: tuple[dict[str, str], ...]
    limits: Limits
    failed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "changed": list(self.changed), "failed": list(self.failed), "passed": self.passed}


def limits_for(precisions: tuple[str, str], **chosen: float | None) -> Limits:
    """→ the looser limits of the two precisions, where what was `chosen` wins"""
    loosest = min((LIMITS[precision] for precision in precisions), key=lambda limits: limits.sqnr_db)
    return Limits(**{**asdict(loosest), **{name: value for name, value in chosen.items() if value is not None}})


def compare(reference: Measured, other: Measured, limits: Limits) -> Pair:
    """Raises UsageError where the two were not given the same inputs, or have no output in common."""
    require_same_inputs(reference, other)
    total = len(reference.answers)
    if other.wrong:
        why, none = f"sqnr_db NaN: {other.wrong}", 0.0 if total else None
        return Pair(reference.name, other.name, None, None, None, none, total, (), limits, (why,))
    names = [name for name in reference.outputs if name in other.outputs]
    if not names:
        has = ", ".join(reference.outputs)
        raise UsageError(f"{other.name} gives {', '.join(other.outputs)}; {reference.name} gives {has}: none in common")
    near, largest = Fidelity(), 0.0
    for name in names:
        want, got = reference.outputs[name], other.outputs[name]
        if want.shape != got.shape:
            shapes = f"{list(got.shape)} where {reference.name} gives {list(want.shape)}"
            raise UsageError(f"{name} of {other.name} is {shapes}: the models differ; validate the same model")
        near.add(want, got)
        gap = float((want - got).abs().max()) if want.numel() else 0.0
        largest = gap if math.isnan(gap) else max(largest, gap)
    changed = [key for key, text in reference.answers.items() if other.answers.get(key) != text]
    equal = 1 - len(changed) / total if total else None
    shown = [
        {"id": k, "reference": reference.answers[k], "target": other.answers.get(k, "")} for k in changed[:CHANGED]
    ]
    found = {"sqnr_db": near.sqnr_db, "cosine": near.cosine, "answers_equal": equal}
    return Pair(
        reference.name, other.name, _finite(near.sqnr_db), _finite(near.cosine), _finite(largest), equal, total,
        tuple(shown), limits, tuple(_missed(found, limits)),
    )  # fmt: skip


def require_same_inputs(reference: Measured, other: Measured) -> None:
    """Raises UsageError, with what differs, where the two were not given the same inputs."""
    if reference.digest == other.digest:
        return
    keys = ("task", "data", "rows", "tokens", "max_length", "model")
    was, now = reference.about, other.about
    differ = [f"{key} {was.get(key)!r} there, {now.get(key)!r} here" for key in keys if was.get(key) != now.get(key)]
    what = "; ".join(differ) or "the tokens differ: another tokenizer, or another file of that name"
    raise UsageError(
        f"the inputs of {reference.name} are not those of {other.name}: {what}. "
        "Give both the same --task, --data, --limit, --max-length and model"
    )


def _missed(found: dict[str, float | None], limits: Limits) -> list[str]:
    missed = []
    for name, least in asdict(limits).items():
        value = found[name]
        if value is not None and not value >= least:  # so that NaN misses
            missed.append(f"{name} {value:.6g}, at least {least:g} wanted")
    return missed


def _finite(value: float) -> float | None:
    """JSON has neither infinity nor NaN."""
    return value if math.isfinite(value) else None
