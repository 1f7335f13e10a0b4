"""All the goals of the target cuda in one run: `python -m benchmarks.cuda_goals --output PATH`, on one H200.

Writes PATH.json and PATH.md. What could not be measured stands there with its reason. Exit code 0 however far the
goals are met: it is a measurement.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import cuda_steps, cuda_work
from benchmarks.cuda_peers import PEERS
from benchmarks.files import require_places, write
from benchmarks.one_line import OneLine
from models.question_answering.examples import Example, read_examples
from targets.cuda import device

DATA = Path(__file__).parents[1] / "tests" / "data" / "squad" / "dev-v1.1.json.gz"
BEST = ("opswap int", "opswap fp8")  # the better of the two is held against a goal
FASTER = {"torch.compile bf16": 1.5, "torchao int8": 1.3, "torchao fp8": 1.3}  # times as fast as each
MOST_DROP = 0.1  # F1 points, as on the CPU


@dataclass(frozen=True)
class Goal:
    """work: of cuda_work; unit: "ms" of a call, at most `wanted`, or "samples/s", at least."""

    work: str
    unit: str
    wanted: float


GOALS = (
    Goal("BERT-large, batch 1, 384 tokens", "ms", 2.0),
    Goal("BERT-base, batch 32, 384 tokens", "samples/s", 4 * 2325),
    Goal("BERT-large, SQuAD's true lengths", "samples/s", 4500),
)


def works(examples: Sequence[Example], rows: int) -> list[Any]:
    """The work of each of GOALS, in order"""
    first, second, third = (goal.work for goal in GOALS)
    return [
        cuda_work.one_shape(first, "bert-large", 1, 300),
        cuda_work.one_shape(second, "bert-base", 32, 100),
        cuda_work.true_lengths(third, "bert-large", examples, rows, 5),
    ]


def in_unit(unit: str, milliseconds: float, rows: int) -> float:
    return milliseconds if unit == "ms" else 1000 * rows / milliseconds


def judged(goal: Goal, times: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """→ what came of a goal: each engine's median in its unit, or why there is none; whether it was met; how many
    times as fast as each peer, and whether that was enough"""
    medians = {name: statistics.median(value) for name, value in times.items() if not isinstance(value, str)}
    figures = {name: round(in_unit(goal.unit, value, rows), 3) for name, value in medians.items()}
    left_out = {name: value for name, value in times.items() if isinstance(value, str)}
    ours = {name: medians[name] for name in BEST if name in medians}
    result = {"goal": goal.work, "unit": goal.unit, "wanted": goal.wanted, "figures": figures, "left_out": left_out}
    if not ours:
        return {**result, "best": None, "met": None, "faster": {}}
    best = min(ours, key=lambda name: ours[name])
    reached = in_unit(goal.unit, ours[best], rows)
    met = reached <= goal.wanted if goal.unit == "ms" else reached >= goal.wanted
    gains = {peer: medians[peer] / ours[best] for peer in FASTER if peer in medians}
    faster = {
        peer: {"times": round(gain, 3), "wanted": FASTER[peer], "met": gain >= FASTER[peer]}
        for peer, gain in gains.items()
    }
    return {**result, "best": best, "met": met, "faster": faster}


def not_measured(reason: str) -> dict[str, Any]:
    """The result of a machine where nothing can run"""
    names = (*cuda_work.OURS, *PEERS)
    return {
        "not measured": reason,
        "goals": [judged(goal, dict.fromkeys(names, reason), 1) for goal in GOALS],
        "steps": cuda_steps.not_measured(reason),
        "f1": reason,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a table of goals and one of engines"""
    nothing = result.get("not measured")  # one reason for all of it
    lines = [f"{result['device']}; torch {result['torch']}{f'; not measured: {nothing}' if nothing else ''}", ""]
    lines += ["| goal | wanted | reached | met |", "|---|---|---|---|"]
    for entry in result["goals"]:
        lines += _goal(entry)
    lines += cuda_steps.markdown(result["steps"])
    drops = result["f1"]
    for name in ("int", "fp8"):
        lost = None if isinstance(drops, str) else drops[f"{name} drop"]
        reached, met = ("not measured", None) if lost is None else (f"{lost:+.3f}", lost <= MOST_DROP)
        lines.append(f"| F1 lost at {name}, the embedded model | ≤ {MOST_DROP} | {reached} | {_met(met)} |")
    if nothing:
        return "\n".join(lines) + "\n"
    lines += ["", "| work | engine | median |", "|---|---|---|"]
    for entry in (*result["goals"], *result["steps"]):
        work = entry.get("goal") or entry["work"]
        lines += [f"| {work} | {name} | {value} {entry['unit']} |" for name, value in entry["figures"].items()]
        lines += [f"| {work} | {name} | not measured: {why} |" for name, why in entry["left_out"].items()]
    if isinstance(drops, str):
        lines += ["", f"F1: not measured: {drops}"]
    return "\n".join(lines) + "\n"


def _goal(entry: Mapping[str, Any]) -> list[str]:
    best, sign = entry["best"], "≤" if entry["unit"] == "ms" else "≥"
    reached = f"{entry['figures'][best]} ({best})" if best else "not measured"
    lines = [f"| {entry['goal']} | {sign} {entry['wanted']:g} {entry['unit']} | {reached} | {_met(entry['met'])} |"]
    for peer, wanted in FASTER.items():
        found = entry["faster"].get(peer)
        reached, met = (f"{found['times']}", found["met"]) if found else ("not measured", None)
        lines.append(f"| times as fast as {peer} | ≥ {wanted} | {reached} | {_met(met)} |")
    return lines


def _met(met: bool | None) -> str:
    return {True: "yes", False: "no", None: "–"}[met]


@click.command(cls=OneLine)
@click.option("--output", type=click.Path(path_type=Path), default="cuda-goals", show_default=True,
              help="Writes PATH.json and PATH.md.")  # fmt: skip
@click.option("--data", default=str(DATA), help="SQuAD file for the true lengths and the F1.")
@click.option("--limit", type=click.IntRange(1), help="Its first N questions only.")
@click.option(
    "--rows", type=click.IntRange(1), default=32, show_default=True, help="Windows in a batch of the true lengths."
)
def main(output: Path, data: str, limit: int | None, rows: int) -> None:
    """Measures the goals of the target cuda, and `generate`, beside torch.compile and torchao, in one run."""
    require_places(output)
    examples = read_examples(data, limit)
    why = "Triton's interpreter is no GPU: leave TRITON_INTERPRET out" if device.interpreted() else device.why_not()
    if why:
        result = not_measured(why)
    else:
        f1 = cuda_work.f1_or_why(examples)  # first: a fault of our own ends the run before time is spent on the others
        goals = []
        for goal, work in zip(GOALS, works(examples, rows), strict=True):
            click.echo(f"{goal.work} …", err=True)
            times = cuda_work.times(work, cuda_work.prepare, (*cuda_work.OURS, *PEERS))
            goals.append({**judged(goal, times, work.rows), "milliseconds": times})
            torch.cuda.empty_cache()
        click.echo("generate …", err=True)
        result = {"goals": goals, "steps": cuda_steps.measured(), "f1": f1}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    result = {"device": name, "torch": torch.__version__, **result}
    write(output.with_name(f"{output.name}.json"), json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    text = markdown(result)
    write(output.with_name(f"{output.name}.md"), text)
    click.echo(text, nl=False)


if __name__ == "__main__":
    main()
