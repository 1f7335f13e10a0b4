"""Engines made ready: prepared, called once, compared with the float model; what can't be is named with its reason."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import Batches
from benchmarks.one_line import one_line
from benchmarks.peers._models import is_by_token, outputs_of
from benchmarks.peers.base import Engine, Run, Work
from toolkit.sensitivity.fidelity import Fidelity

EQUAL_DB = 150.0  # said for an equal output too: JSON has no infinity


@dataclass(frozen=True)
class Contender:
    """An engine that is ready, on the batches it is to run.

    sqnr_db: of its first batch's output against the float model's, over real tokens or classes.
    """

    engine: Engine
    run: Run
    batches: Batches
    sqnr_db: float

    @property
    def key(self) -> str:
        return f"{self.engine.name}\0{self.batches.how}"


@dataclass(frozen=True)
class LeftOut:
    """An engine that could not be measured: why, in one line."""

    engine: Engine
    how: str
    reason: str
    installed: bool


def ready(engine: Engine, model: Any, batches: Batches, threads: int) -> Contender | LeftOut:
    """Prepares one engine and runs all its batches once, so that nothing happens for the first time when timed.

    Whatever an engine raises is the reason why it is left out.
    """
    if missing := engine.missing():
        why = f"not installed: pip install {' '.join(missing)}"
        return LeftOut(engine, batches.how, why, installed=False)
    batch = batches.batches[0]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        work = Work(model, batch, threads, Path(folder), dynamic=not batches.one_shape)
        try:
            with _into(log):
                run = engine.prepare(work)
                sqnr = agreement(model, engine, run, batches)
                for other in batches.batches[1:]:
                    run(other)
        # Not narrower: other people's engines define errors of their own, and a new one's aren't known beforehand.
        # It is no fault of ours but a result, which the report shows beside the figures.
        except Exception as error:
            return LeftOut(engine, batches.how, one_line(error), installed=True)
    return Contender(engine, run, batches, sqnr)


@torch.no_grad()
def agreement(model: Any, engine: Engine, run: Run, batches: Batches) -> float:
    """SQNR in dB of an engine's output on the first batch. Raises ValueError for one of a wrong shape or with NaN."""
    batch = batches.batches[0]
    wanted = outputs_of((model.base_model if engine.encoder_only else model)(**batch))
    got = [torch.as_tensor(value).float() for value in run(batch)]
    shapes = [tuple(value.shape) for value in got], [tuple(value.shape) for value in wanted.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(f"its output has the shapes {shapes[0]}, wanted {shapes[1]}")
    real = batch["attention_mask"].bool()
    found = Fidelity()
    for have, (name, want) in zip(got, wanted.items(), strict=True):
        chosen = real if is_by_token(name, want) else slice(None)
        found.add(want[chosen], have[chosen])
    if found.noise != found.noise:
        raise ValueError("its output is not a number (NaN)")
    return min(EQUAL_DB, found.sqnr_db)


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """What converters and compilers print goes into a file, that of code which isn't Python's too: standard output is
    for results, and a failure is told by its exception."""
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        saved = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
