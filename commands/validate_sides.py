"""A side of `validate`: a target and a precision, or another engine; built, run and measured."""

import gc
from dataclasses import dataclass, replace

import click

import targets
from benchmarks.measure import latency
from commands import onnx_side
from commands.common import Options
from commands.graph import Ready, prepare, require_target
from commands.recipe import HOW_INT
from commands.validate_inputs import Inputs
from models.memory import give_back_memory
from models.numbers import NotNumbers
from models.tasks import Task
from toolkit.quantizers import NATIVE
from toolkit.recipe import PRECISIONS
from toolkit.validate import Measured, Recorder, added_memory
from toolkit.validate.memory import bytes_of


@dataclass(frozen=True)
class Side:
    """engine: a target's name, or onnx; precision: one that it has; device: of PyTorch's, for target cpu; for onnx the
    provider of ONNX Runtime."""

    engine: str
    precision: str
    device: str | None = None

    def __str__(self) -> str:
        return f"{self.engine}{f'@{self.device}' if self.device else ''}:{self.precision}"


def parse(text: str, precision: str) -> Side:
    """TARGET:PRECISION, or TARGET at `precision`; cpu@DEVICE where PyTorch computes on another device, which may have
    a number after a colon of its own; onnx or onnx@PROVIDER. Raises click.UsageError for what is no side."""
    name, at, device = text.partition("@")
    before, _, last = (device if at else name).rpartition(":")
    ends = bool(before) and (not at or last in PRECISIONS)
    wanted, rest = (last, before) if ends else (precision, device if at else name)
    side = Side(name, wanted, rest) if at else Side(rest, wanted)
    engine = side.engine
    if engine not in (*targets.names(), onnx_side.NAME):
        known = ", ".join((*targets.names(), onnx_side.NAME))
        raise click.UsageError(f"{text!r} is no side: give TARGET:PRECISION with one of {known}")
    if side.precision not in PRECISIONS:
        raise click.UsageError(f"{text!r} has an unknown precision: choose one of {', '.join(PRECISIONS)}")
    return side


def options_for(options: Options, side: Side) -> Options:
    """→ the options as if `side` had been asked for; recipe, scheme and calibration are for 8-bit integers alone"""
    given = options.given | {"precision"}
    elsewhere = side.engine == onnx_side.NAME
    target = onnx_side.REFERENCE if elsewhere else side.engine
    options = replace(options, target=target, device=None if elsewhere else side.device)
    if side.precision == "int":
        return replace(options, precision="int", given=given)
    plain = {"recipe": None, "scheme": "dynamic", "calibration": None, "ranges": None, "percentile": None,
             "quantizer": NATIVE, "autotune": None, "rotate": False, "given": given - {"scheme", *HOW_INT}}  # fmt: skip
    return replace(options, precision=side.precision, **plain)  # type: ignore[arg-type]


def require_possible(options: Options, sides: list[Side]) -> None:
    """Raises at once, before any model is loaded, what a side's target would raise."""
    for side in sides:
        if side.engine == onnx_side.NAME:
            onnx_side.require_possible(side.precision, side.device)
        else:
            require_target(options_for(options, side))


def measure(options: Options, side: Side, inputs: Inputs, batch_size: int, passes: int) -> Measured:
    """Builds the side's graph and runs all rows through it: once to warm up, then `passes` times. The first of these
    is what is compared; a side that gives no numbers is neither timed nor run again, and says why. Memory is what the
    timed passes add to what the process held before them: neither the weights nor what other sides left is in it."""
    ready, weights = build(options_for(options, side), side, inputs.task)
    held = {"weights_mb": round(weights / 1e6, 1)}
    about = {**ready.header, **inputs.about, "latency_ms": None, "memory": {**held, "run_adds_mb": None}}
    try:
        inputs.answers(Recorder(ready.graph), batch_size)
    except NotNumbers as error:
        return Measured(str(side), side.precision, inputs.digest(), {}, {}, about, wrong=str(error))
    gc.collect()
    give_back_memory()
    recorder = Recorder(ready.graph)
    with added_memory() as memory:
        answers = inputs.answers(recorder, batch_size)
        outputs, times = recorder.outputs(), recorder.times
        for _ in range(passes - 1):
            again = Recorder(ready.graph)
            inputs.answers(again, batch_size)
            times += again.times
    about |= {"latency_ms": latency(times), "memory": {**held, **memory}}
    return Measured(str(side), side.precision, inputs.digest(), outputs, answers, about)


def build(options: Options, side: Side, task: Task) -> tuple[Ready, int]:
    """→ the side, and the bytes of its weights"""
    if side.engine == onnx_side.NAME:
        return onnx_side.ready(options, side.device, task)
    ready = prepare(options, task=task)
    return ready, bytes_of(ready.graph)
