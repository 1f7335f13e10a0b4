"""Whether a file computes what the graph computes that it was made of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from toolkit.sensitivity.fidelity import Fidelity, at_real

LEAST_DB = 35.0  # of the outputs at real tokens
LEAST_EQUAL = 0.99  # of the answers


@dataclass
class Recorder:
    """A model that remembers what it returned: its outputs at real tokens, for each call."""

    model: Callable[..., Any]
    seen: list[list[Tensor]] = field(default_factory=list)

    def __call__(self, **given: Tensor) -> Any:
        output = self.model(**given)
        mask = given["attention_mask"]
        self.seen.append([at_real(value, mask).float() for value in output.values() if isinstance(value, Tensor)])
        return output


@dataclass(frozen=True)
class Agreement:
    """sqnr_db: of all outputs, infinite if they are equal; questions, equal: how many were asked, and answered alike"""

    sqnr_db: float
    questions: int
    equal: int

    @property
    def passed(self) -> bool:
        return self.sqnr_db >= LEAST_DB and self.equal >= LEAST_EQUAL * self.questions

    def as_json(self) -> dict[str, Any]:
        """sqnr_db is null where the outputs are equal, bit for bit"""
        return {
            "sqnr_db": round(self.sqnr_db, 1) if math.isfinite(self.sqnr_db) else None,
            "questions": self.questions,
            "answers_equal": self.equal,
            "passed": self.passed,
        }


def agreement(want: Recorder, got: Recorder, wanted: Sequence[Any] = (), answers: Sequence[Any] = ()) -> Agreement:
    """want, got: after the same calls; wanted, answers: what they answered, in the same order"""
    fidelity = Fidelity()
    for expected, found in zip(want.seen, got.seen, strict=True):
        for a, b in zip(expected, found, strict=True):
            fidelity.add(a, b)
    equal = sum(a == b for a, b in zip(wanted, answers, strict=True))
    return Agreement(fidelity.sqnr_db, len(wanted), equal)
