"""`quantize`: the model in 8 bits as a folder."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from torch import fx

import targets
from commands.cache import cached_or_not
from commands.common import Options, err, out, print_json
from commands.doctor import not_run
from commands.graph import fit, header_of, use_threads
from commands.recipe import recipe_of, require_sense, require_task
from commands.tuning import read_questions
from models import InputError, load
from models.tasks import ASK, GENERATE, TASKS
from targets.base import Execution, Target, UsageError
from toolkit import Recipe, checkpoint
from toolkit.cache import past_of
from toolkit.pipeline import quantized
from toolkit.quantize import schemes_of
from toolkit.quantizers import NATIVE
from toolkit.report import attach, extra_terms

NOTHING = Execution("nothing", False, "", "")  # ran: see not_run


@click.command("quantize")
@click.option("--output", required=True, type=click.Path(path_type=Path),
              help="Folder to write; an earlier checkpoint there is replaced, in one step.")  # fmt: skip
@click.option("--task", default=ASK.name, show_default=True, type=click.Choice(sorted(TASKS)),
              help="What the model is loaded for: the command that then takes the folder.")  # fmt: skip
@click.pass_obj
def command(options: Options, output: Path, task: str) -> None:
    """Save the model in 8 bits: int8 weights and scales, in the layout of compressed-tensors (int-quantized).

    Commands that run a model for --task load the folder with --model, on every target, without the float weights; at
    other precisions than int its weights are read as floats. For `generate` it keeps keys and values of earlier tokens,
    where the model can.
    """
    if "precision" in options.given and options.precision != "int":
        raise click.UsageError(f"quantize saves --precision int, not {options.precision}: leave --precision out")
    recipe = recipe_of(replace(options, precision="int"))
    target = for_target(options.target, recipe)
    require_task(options, TASKS[task])
    require_sense(options, recipe)
    if recipe.quantizer != NATIVE and not recipe.is_static():
        name = recipe.quantizer
        raise click.UsageError(f"{name}'s dynamic ranges are of whole tensors, which no checkpoint holds: "
                               "give --scheme static")  # fmt: skip
    checkpoint.require_free(output)
    questions = read_questions(options)
    use_threads(options)
    begun = time.perf_counter()
    model, tokenizer = load(options.model, task=TASKS[task])

    def make(**given: Any) -> fx.GraphModule:
        if task == GENERATE.name:
            return cached_or_not(model, lambda one: quantized(one, recipe, **given))
        return quantized(model, recipe, **given)

    graph, data = fit(options, questions, tokenizer, model.config, make)
    try:
        saved = checkpoint.save(graph, model, recipe, output, tokenizer.save_pretrained)
    except OSError as error:
        raise InputError(f"{output} can't be written ({error.strerror or error}): give another folder") from error
    if saved.portable:
        err.print(f"only OpSwap can read {output}: {saved.portable}")
    layers = saved.layers - len(extra_terms(graph))
    attach(graph, recipe, target, NOTHING, layers, {}, schemes_of(graph))
    result: dict[str, Any] = {
        **header_of(options, graph, data),
        "target": not_run(options.target),
        "task": task,
        "output": str(output),
        "layers": layers,
        "cache": bool(past_of(graph)),
        "bytes": saved.bytes,
        "only_opswap": saved.portable,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    print_json(result) if options.json else out.print(
        f"{output}: {layers} layers in 8 bits, {len(result['kept'])} kept in float, {saved.bytes / 1e6:.1f} MB, "
        f"{result['seconds']:.1f} s"
    )


def for_target(name: str, recipe: Recipe) -> Target:
    """→ the target that the folder is made for. Raises UsageError for one that could not compute with its integers,
    here or anywhere."""
    target = targets.get(name)
    if recipe.precision not in target.precisions:
        raise UsageError(f"target {name} has no precision {recipe.precision!r}, which quantize saves; leave --target "
                         f"out: {name} takes the folder, and reads its weights as floats")  # fmt: skip
    targets.require_schemes(target, recipe.schemes())
    return target
