"""A side of `validate`: a target and a precision, or another engine; built, run and measured."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click
from torch import nn

import targets
from benchmarks.measure import latency
from commands.common import Options
from commands.graph import Ready, prepare, require_target
from commands.models import is_quantized, load_float
from commands.recipe import HOW_INT
from commands.validate_inputs import Inputs
from models.memory import give_back_memory
from models.tasks import Task
from toolkit.quantizers import NATIVE
from toolkit.recipe import PRECISIONS
from toolkit.validate import Measured, Recorder, peak_memory
from toolkit.validate.memory import bytes_of

# What else than a target can be a side: name → (options with the side's precision, task) → the model in that engine,
# called as a graph is; the header says in "target" what ran. An exporter's session belongs here.
ENGINES: dict[str, Callable[[Options, Task], Ready]] = {}


@dataclass(frozen=True)
class Side:
    """engine: a target's name, or one of ENGINES; precision: one that it has; device: of PyTorch's, for target cpu."""

    engine: str
    precision: str
    device: str | None = None

    def __str__(self) -> str:
        return f"{self.engine}{f'@{self.device}' if self.device else ''}:{self.precision}"


def parse(text: str, precision: str) -> Side:
    """TARGET:PRECISION, or TARGET at `precision`; cpu@DEVICE where PyTorch computes on another device, which may have
    a number after a colon of its own. Raises click.UsageError for what is no side."""
    name, at, device = text.partition("@")
    before, _, last = (device if at else name).rpartition(":")
    ends = bool(before) and (not at or last in PRECISIONS)
    wanted, rest = (last, before) if ends else (precision, device if at else name)
    side = Side(name, wanted, rest) if at else Side(rest, wanted)
    engine = side.engine
    if engine not in (*targets.names(), *ENGINES):
        known = ", ".join((*targets.names(), *ENGINES))
        raise click.UsageError(f"{text!r} is no side: give TARGET:PRECISION with one of the targets {known}")
    if side.precision not in PRECISIONS:
        raise click.UsageError(f"{text!r} has an unknown precision: choose one of {', '.join(PRECISIONS)}")
    return side


def options_for(options: Options, side: Side) -> Options:
    """→ the options as if `side` had been asked for; recipe, scheme and calibration are for 8-bit integers alone"""
    given = options.given | {"precision"}
    options = replace(options, device=side.device)
    if side.precision == "int":
        return replace(options, target=side.engine, precision="int", given=given)
    plain = {"recipe": None, "scheme": "dynamic", "calibration": None, "ranges": None, "percentile": None,
             "quantizer": NATIVE, "autotune": None, "given": given - {"scheme", *HOW_INT}}  # fmt: skip
    return replace(options, target=side.engine, precision=side.precision, **plain)  # type: ignore[arg-type]


def require_possible(options: Options, sides: list[Side]) -> None:
    """Raises at once, before any model is loaded, what a side's target would raise."""
    for side in sides:
        if side.engine not in ENGINES:
            require_target(options_for(options, side))


def measure(options: Options, side: Side, inputs: Inputs, batch_size: int, passes: int) -> Measured:
    """Builds the side's graph and runs all rows through it: once to warm up, then `passes` times. The first of these
    is what is compared."""
    ready = build(options_for(options, side), side, inputs.task)
    inputs.answers(Recorder(ready.graph), batch_size)
    gc.collect()
    give_back_memory()
    recorder = Recorder(ready.graph)
    with peak_memory() as memory:
        answers = inputs.answers(recorder, batch_size)
        outputs, times = recorder.outputs(), recorder.times
        for _ in range(passes - 1):
            again = Recorder(ready.graph)
            inputs.answers(again, batch_size)
            times += again.times
    weights = round(bytes_of(ready.graph) / 1e6, 1) if isinstance(ready.graph, nn.Module) else None
    about = {**ready.header, **inputs.about}
    about["latency_ms"], about["memory"] = latency(times), {"weights_mb": weights, **memory}
    return Measured(str(side), side.precision, inputs.digest(), outputs, answers, about)


def build(options: Options, side: Side, task: Task) -> Ready:
    """A quantized model is float's side as the model that its weights stand for."""
    if side.engine in ENGINES:
        return ENGINES[side.engine](options, task)
    loaded: Any = load_float(options.model, task) if side.precision != "int" and is_quantized(options.model) else None
    return prepare(options, loaded, task)
