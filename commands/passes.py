"""The passes over calibration data, each with a bar of its own on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress
from torch import Tensor

from commands.common import progress_bar
from models.calibration import CalibrationData


@dataclass(frozen=True)
class Passes:
    """The batches of `data`, at every iteration, which `bar` counts."""

    data: CalibrationData
    bar: Progress

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        task = self.bar.add_task(f"calibrating, pass {len(self.bar.tasks) + 1}", total=len(self))
        for batch in self.data:
            yield batch
            self.bar.advance(task)


@contextmanager
def shown(data: CalibrationData | None) -> Iterator[Passes | None]:
    """→ the same batches, each pass over them with a bar while the block lasts; None for none"""
    if data is None:
        yield None
        return
    with progress_bar() as bar:
        yield Passes(data, bar)
