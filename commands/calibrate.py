"""`calibrate`: how the model is best rounded to 8 bits, left in its folder."""

import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import targets
from commands.common import Options, err, out, print_json, refuse
from commands.doctor import not_run
from commands.graph import use_threads
from commands.passes import shown
from commands.recipe import recipe_of, require_sense
from models import InputError, load
from models.calibration import CalibrationData, from_questions, read_calibration
from models.memory import keep_freed_memory
from models.places import folder_of
from models.question_answering.examples import Example
from models.texts import longest_row
from operators.weights import WeightError
from targets.base import NotFinite, UsageError
from toolkit import CaptureError, Recipe
from toolkit.equalize.stored import write
from toolkit.integers import find_rounding
from toolkit.pipeline import captured


@click.command("calibrate")
@click.pass_obj
def command(options: Options) -> None:
    """Find, with --calibration FILE, how the model is best rounded to 8 bits, and leave that in its folder.

    From then on --precision int goes by it wherever no data is given: the weights' errors make up for each other, and
    the biases for what is left. The float model stays as it is.
    """
    recipe, file = checked(options)
    use_threads(options)
    keep_freed_memory()
    begun = time.perf_counter()
    model, tokenizer = load(options.model)
    data = read_calibration(file, tokenizer, options.samples, longest_row(tokenizer, model.config))
    made, count = leave_rounding(model, recipe, data, Path(folder_of(options.model)))
    result: dict[str, Any] = {
        "target": not_run(options.target),
        "model": options.model,
        "precision": recipe.precision,
        "scheme": recipe.scheme,
        "calibration": said_of(data),
        "output": str(made),
        "layers": count,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    print_json(result) if options.json else out.print(f"{made}: {count} linears, {result['seconds']:.1f} s")


def checked(options: Options) -> tuple[Recipe, str]:
    """→ the recipe whose rounding is to be found, and the file of data. Raises UsageError for what can't be left
    with a model."""
    if "precision" in options.given and options.precision != "int":
        raise click.UsageError(f"calibrate is for --precision int, not {options.precision}: leave --precision out")
    targets.get(options.target)
    refuse(options.given, ("without", "strict"), "has no part in calibrate")
    if options.calibration is None:
        raise click.UsageError("calibrate wants data; got none; give --calibration FILE")
    recipe = recipe_of(replace(options, precision="int"))
    if recipe.schemes() != {"dynamic"}:
        odd = next(iter(recipe.schemes() - {"dynamic"}))
        raise click.UsageError(f"calibrate is for the scheme dynamic, not {odd}: `quantize` saves such a model whole")
    if not (recipe.compensate and recipe.correct_bias):
        off = "correct_bias" if recipe.compensate else "compensate"
        raise click.UsageError(f"calibrate finds weights and biases that make up for errors; the recipe turns {off} "
                               "off: leave that out")  # fmt: skip
    if options.quantizer != "native":
        raise click.UsageError(f"calibrate is for the native quantizer, not {options.quantizer}: leave it out")
    require_sense(options, recipe)
    return recipe, options.calibration


def leave_rounding(model: Any, recipe: Recipe, data: CalibrationData, folder: Path) -> tuple[Path, int]:
    """model: float, whose files `folder` holds → the file, and of how many linears. Raises InputError."""
    with shown(data) as passes:
        stored = find_rounding(captured(model, recipe.precision), recipe, about=said_of(data), **passes)
    if not stored.linears:
        raise InputError("calibrate found no linear whose rounding could be kept: the recipe leaves none in 8 bits")
    try:
        return write(folder, stored), len(stored.linears)
    except OSError as error:
        raise InputError(
            f"{folder} can't be written to ({error.strerror or error}): copy the model elsewhere"
        ) from error


def said_of(data: CalibrationData) -> dict[str, object]:
    """→ what every result says of the data that it was calibrated with"""
    return {"file": data.file, "samples": data.samples}


def calibrate_trained(folder: Path, examples: list[Example], files: Collection[str]) -> dict[str, object] | None:
    """What `calibrate` does, for the model that `finetune` wrote, on questions that it was trained with. → what is said
    of them; None where it can't be done, and a line says why: the training is not lost."""
    names = ", ".join(Path(file).name for file in files)
    try:
        model, tokenizer = load(str(folder))
        data = from_questions(examples, names, tokenizer, Options.samples, longest_row(tokenizer, model.config))
        leave_rounding(model, Recipe(precision="int"), data, folder)
        return said_of(data)
    except (InputError, CaptureError, WeightError, NotFinite, UsageError) as error:
        err.print(f"{folder} is not calibrated for 8 bits: {error}")
        return None
