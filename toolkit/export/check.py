"""Whether a file computes what the graph computes that it was made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.sensitivity.fidelity import Fidelity
from toolkit.validate.measure import Recorder

LEAST_DB = 35.0  # of the outputs at real tokens
LEAST_EQUAL = 0.99  # of the answers
# In 8 bits two runtimes that are both right differ more: a float's last bit turns a level, and in a few layers that is
# noise of its own. ONNX Runtime and cpu gave the same answer to 98.7 (dynamic) and 98.9% (static) of 1,000 questions;
# of a sample of 121 as many as three may differ.
LEAST_EQUAL_INT8 = 0.97


@dataclass(frozen=True)
class Agreement:
    """sqnr_db: of all outputs, infinite if they are equal; questions, equal: how many were asked, and answered alike;
    least_equal: the share of equal ones that passes"""

    sqnr_db: float
    questions: int
    equal: int
    least_equal: float = LEAST_EQUAL

    @property
    def least(self) -> int:
        """→ how many equal answers pass"""
        return math.ceil(self.least_equal * self.questions - 1e-9)  # 0.07 * 100 is a little more than 7

    @property
    def passed(self) -> bool:
        return self.sqnr_db >= LEAST_DB and self.equal >= self.least

    def as_json(self) -> dict[str, Any]:
        """sqnr_db is null where the outputs are equal, bit for bit"""
        return {
            "sqnr_db": round(self.sqnr_db, 1) if math.isfinite(self.sqnr_db) else None,
            "questions": self.questions,
            "answers_equal": self.equal,
            "passed": self.passed,
        }


def agreement(
    want: Recorder, got: Recorder, wanted: Sequence[Any] = (), answers: Sequence[Any] = (), least: float = LEAST_EQUAL
) -> Agreement:
    """want, got: after the same calls; wanted, answers: what they answered, in the same order; least: the share of
    equal ones that passes"""
    fidelity, found = Fidelity(), got.outputs()
    for name, value in want.outputs().items():
        fidelity.add(value, found[name])
    equal = sum(a == b for a, b in zip(wanted, answers, strict=True))
    return Agreement(fidelity.sqnr_db, len(wanted), equal, least)
