"""How often a graph of another quantizer answers on our targets as it does run by itself, in PyTorch; and how often as
itself with its sums in another order, beside which no other arithmetic can be asked to be nearer."""

from collections.abc import Callable, Mapping
from typing import Any

import click
import torch
from torch import fx

from benchmarks.one_line import OneLine
from models import load
from models.calibration import read_calibration
from models.question_answering.examples import read_examples
from models.question_answering.predict import answer_texts, predict
from toolkit import Recipe, transform
from toolkit.calibrate import require_data
from toolkit.elsewhere import require_possible
from toolkit.pipeline import made_elsewhere
from toolkit.quantizers import NAMES, NATIVE

TARGETS = ("cpu", "customcpu", "aie")
ITSELF = "itself, without oneDNN"
SAMPLES = 32

Answer = Callable[[Any], Mapping[str, str]]  # a model → its answers, by question


def equal_answers(graph: fx.GraphModule, answer: Answer) -> dict[str, int]:
    """→ how many answers equal those of `graph` in PyTorch: its own without oneDNN, and each target's"""
    wanted = answer(graph)
    with torch.backends.mkldnn.flags(enabled=False):
        found = {ITSELF: answer(graph)}
    for target in TARGETS:
        found[target] = answer(transform(graph, Recipe("int"), target))
    return {name: sum(text == wanted[key] for key, text in answers.items()) for name, answers in found.items()}


@click.command(cls=OneLine)
@click.option("--quantizer", required=True, type=click.Choice([name for name in NAMES if name != NATIVE]))
@click.option("--scheme", default="static", show_default=True, type=click.Choice(["static", "dynamic"]))
@click.option("--calibration", metavar="FILE", help="For static: SQuAD file or text to calibrate with.")
@click.option("--samples", type=click.IntRange(1), help=f"Questions of it.  [default: {SAMPLES}]")
@click.option("--data", required=True, metavar="FILE", help="SQuAD file whose questions are asked.")
@click.option("--limit", type=click.IntRange(1), help="Its first N questions only.")
def main(
    quantizer: str, scheme: str, calibration: str | None, samples: int | None, data: str, limit: int | None
) -> None:
    """Answers of another quantizer's graph of the embedded model, on our targets and run by itself: how many equal."""
    recipe = Recipe("int", scheme=scheme, quantizer=quantizer)
    require_data(recipe, calibration)
    if scheme == "dynamic" and (calibration or samples):
        name = "calibration" if calibration else "samples"
        raise click.UsageError(f"--{name} is for --scheme static: leave it out")
    require_possible(recipe, None)
    examples = read_examples(data, limit)
    model, tokenizer = load()
    given = None if calibration is None else read_calibration(calibration, tokenizer, samples or SAMPLES)
    graph = made_elsewhere(model, recipe, given)
    found = equal_answers(graph, lambda made: answer_texts(examples, predict(made, tokenizer, examples)))
    for name, equal in found.items():
        click.echo(f"{quantizer} {scheme:<8} {name:<23} {equal} of {len(examples)}")


if __name__ == "__main__":
    main()
