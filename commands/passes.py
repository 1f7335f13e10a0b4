"""The passes over calibration data, each with a bar of its own on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress

from commands.common import progress_bar
from models.calibration import CalibrationData
from operators.build import cache_folder


class Passes:
    """What is told how many of `total` batches are done, as toolkit.calibrate.Progress: `bar` shows each pass."""

    def __init__(self, bar: Progress, total: int) -> None:
        self.bar, self.total = bar, total
        self.done: int | None = None

    def __call__(self, done: int) -> None:
        if self.done is None or done != self.done + 1:  # a pass begins, maybe where one that was killed ended
            name = f"calibrating, pass {len(self.bar.tasks) + 1}"
            self.task = self.bar.add_task(name, total=self.total, completed=done)
        else:
            self.bar.update(self.task, completed=done)
        self.done = done


@contextmanager
def shown(data: CalibrationData | None) -> Iterator[dict[str, Any]]:
    """→ the data, and the folder and progress of the passes over them, as toolkit.transform takes them; each pass has
    a bar while the block lasts. Nothing for none."""
    if data is None:
        yield {}
        return
    with progress_bar() as bar:
        yield {"data": data, "folder": cache_folder(), "progress": Passes(bar, len(data))}
