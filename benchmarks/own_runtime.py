"""How often a graph of another quantizer answers on our targets as it does by itself: run node by node in PyTorch, or
compiled, as its makers would have it run. Beside them the graph itself with its sums in another order, and in its other
runtime: no other arithmetic can be asked to be nearer than it is to itself."""

from collections.abc import Callable, Mapping
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from benchmarks.one_line import OneLine
from models import load
from models.calibration import read_calibration
from models.question_answering.examples import read_examples, read_text
from models.question_answering.predict import answer_texts, predict
from toolkit import Recipe, transform
from toolkit.calibrate import require_data
from toolkit.elsewhere import require_possible
from toolkit.pipeline import made_elsewhere
from toolkit.quantizers import NAMES, NATIVE
from toolkit.raising import LINEAR
from toolkit.recipe_file import parse
from toolkit.share import same_nodes

TARGETS = ("cpu", "customcpu", "aie")
ITSELF, REVERSED, COMPILED = "itself", "itself, its sums in reverse", "itself, compiled"
SAMPLES = 32

Answer = Callable[[Any], Mapping[str, str]]  # a model → its answers, by question
Equal = dict[str, dict[str, int]]  # a runtime of the graph's own → who else, and how many answers are equal


def equal_answers(graph: fx.GraphModule, answer: Answer, compiled: bool = False) -> Equal:
    """→ how many answers equal those of `graph` in PyTorch, and compiled: its own in another way, and each target's"""
    found = {ITSELF: answer(graph), REVERSED: answer(sums_reversed(graph))}
    if compiled:
        found[COMPILED] = answer(as_compiled(graph))
    for target in TARGETS:
        found[target] = answer(transform(graph, Recipe("int"), target))
    return {
        runtime: {
            name: sum(text == found[runtime][key] for key, text in answers.items())
            for name, answers in found.items()
            if name != runtime
        }
        for runtime in (ITSELF, COMPILED)
        if runtime in found
    }


def sums_reversed(graph: fx.GraphModule) -> fx.GraphModule:
    """→ a copy whose linears add the same products in another order: what float32 leaves open"""
    made = fx.GraphModule(graph, same_nodes(graph))
    for node in made.graph.find_nodes(op="call_function", target=LINEAR):
        node.target = _from_the_end
    made.recompile()
    return made.eval()


def _from_the_end(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x.flip(-1), weight.flip(-1), bias)


def as_compiled(graph: fx.GraphModule) -> Callable[..., Any]:
    """→ the graph as torchao's and Neural Compressor's guides run it: by Inductor, with frozen weights"""
    plain = fx.GraphModule(graph, same_nodes(graph)).eval()  # without the check of its inputs, which is Python
    run: Any = torch.compile(plain, dynamic=True, fullgraph=True)

    def call(**given: Tensor) -> Any:
        with torch.no_grad(), inductor.patch(freezing=True):  # it is compiled when it is called
            return run(**given)

    return call


def in_bytes() -> bool:
    """→ whether what was compiled in this process multiplies any linear in 8 bits"""
    return bool(counters["inductor"]["qlinear_weight_prepack_matcher_count"])


def recipe_of(quantizer: str, scheme: str | None, file: str | None, rotate: bool = False) -> Recipe:
    """→ the file's recipe, where there is one, with this quantizer, and what else is given"""
    if file is None:
        return Recipe("int", scheme=scheme or "static", quantizer=quantizer, rotate=rotate)
    given = {"scheme": scheme, "rotate": rotate or None}
    return parse(read_text(file), file, {"quantizer": quantizer, **{name: one for name, one in given.items() if one}})


@click.command(cls=OneLine)
@click.option("--quantizer", required=True, type=click.Choice([name for name in NAMES if name != NATIVE]))
@click.option("--scheme", type=click.Choice(["static", "dynamic"]), help="[default: the recipe's, or static]")
@click.option("--calibration", metavar="FILE", help="For static: SQuAD file or text to calibrate with.")
@click.option("--recipe", "kept", metavar="FILE", help="Which linears stay in float: YAML, as run.py takes it.")
@click.option("--rotate", is_flag=True, help="Rotate what the linears read before it is quantized.")
@click.option("--samples", type=click.IntRange(1), help=f"Questions of it.  [default: {SAMPLES}]")
@click.option("--data", required=True, metavar="FILE", help="SQuAD file whose questions are asked.")
@click.option("--limit", type=click.IntRange(1), help="Its first N questions only.")
@click.option("--compiled", is_flag=True, help="Compare with the compiled graph too; compiling takes minutes.")
def main(
    quantizer: str,
    scheme: str | None,
    calibration: str | None,
    kept: str | None,
    rotate: bool,
    samples: int | None,
    data: str,
    limit: int | None,
    compiled: bool,
) -> None:
    """Answers of another quantizer's graph of the embedded model, on our targets and run by itself: how many equal."""
    recipe = recipe_of(quantizer, scheme, kept, rotate)
    require_data(recipe, calibration)
    if recipe.scheme == "dynamic" and (calibration or samples):
        name = "calibration" if calibration else "samples"
        raise click.UsageError(f"--{name} is for --scheme static: leave it out")
    require_possible(recipe, None)
    examples = read_examples(data, limit)
    model, tokenizer = load()
    batches = None if calibration is None else read_calibration(calibration, tokenizer, samples or SAMPLES)
    graph = made_elsewhere(model, recipe, batches)
    found = equal_answers(graph, lambda made: answer_texts(examples, predict(made, tokenizer, examples)), compiled)
    for runtime, others in found.items():
        how = f", linears in {'8 bits' if in_bytes() else 'float'}" if runtime == COMPILED else ", node by node"
        who = f"{quantizer} {recipe.scheme}{', rotated' if recipe.rotate else ''}"
        click.echo(f"{who}: answers of {len(examples)} that equal those of the graph {runtime}{how}")
        for name, equal in others.items():
            click.echo(f"  {name:<27} {equal}")


if __name__ == "__main__":
    main()
