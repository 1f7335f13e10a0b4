"""What a graph gives at the real tokens of its inputs, and how long it takes."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from toolkit.sensitivity.fidelity import at_real


@dataclass(frozen=True)
class Measured:
    """name: target and precision; digest: of the inputs; outputs: float32 at real tokens, by the names of the model's
    outputs, rows from the longest to the shortest, so that batches of any size give the same; answers: by the
    question's id, or whatever else an answer belongs to; about: plain values for people, {"target", "model", ...};
    wrong: why there are neither outputs nor answers, None where there are."""

    name: str
    precision: str
    digest: str
    outputs: dict[str, Tensor]
    answers: dict[str, str]
    about: dict[str, Any]
    wrong: str | None = None


@dataclass
class Recorder:
    """Stands for a graph: calls it, keeps what it gives, and notes the milliseconds a row of each call."""

    run: Callable[..., Any]
    times: list[float] = field(default_factory=list)
    kept: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, **batch: Tensor) -> Any:
        begun = time.perf_counter()
        output = self.run(**batch)
        self.times.append(1000 * (time.perf_counter() - begun) / len(batch["input_ids"]))
        for name, value in output.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                self.kept[name].append(at_real(value.detach(), batch["attention_mask"]).to("cpu", torch.float32))
        return output

    def outputs(self) -> dict[str, Tensor]:
        """→ all that was given so far, by name"""
        return {name: torch.cat(parts) for name, parts in self.kept.items()}


def digest(task: str, rows: Sequence[tuple[Sequence[int], Sequence[int] | None]]) -> str:
    """rows: token ids and types of each → what is the same for the same task and inputs, and for no others"""
    found = hashlib.sha256(task.encode())
    for ids, types in rows:
        found.update(f"\n{list(ids)} {None if types is None else list(types)}".encode())
    return found.hexdigest()
