"""The recipe that the options ask for; options that have no part in it are refused, not passed over."""

from dataclasses import replace

from commands.common import Options, refuse
from models.question_answering.examples import read_text
from models.tasks import ASK, Task
from toolkit import Recipe
from toolkit.calibrate import require_data
from toolkit.elsewhere import require_possible
from toolkit.quantizers import NATIVE
from toolkit.recipe_file import parse

# how a model in 8 bits comes about: all but --precision, --scheme and --recipe
HOW_INT = ("calibration", "samples", "ranges", "percentile", "rotate", "quantizer", "autotune")


def recipe_of(options: Options) -> Recipe:
    """→ the recipe of --recipe FILE, where what the command line gives itself wins, or that of the options alone.

    Raises InputError for a file that can't be read, UsageError for one that is no recipe.
    """
    settings = {"precision": options.precision, "scheme": options.scheme, "without": options.without}
    settings["quantizer"] = options.quantizer
    chosen = {"ranges": options.ranges, "percentile": options.percentile, "rotate": options.rotate or None}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if options.recipe is None:
        return Recipe(**settings, **chosen)  # type: ignore[arg-type]
    won = {name: value for name, value in settings.items() if name in options.given}
    return parse(read_text(options.recipe), options.recipe, {**won, **chosen})


def int_recipe(options: Options) -> Recipe:
    """→ what the options or the file say, int where they say no precision"""
    chosen = options.recipe is not None or "precision" in options.given
    return recipe_of(options if chosen else replace(options, precision="int"))


def require_sense(options: Options, recipe: Recipe) -> None:
    """Raises, before a model is loaded, UsageError for what `transform` would refuse of the recipe, and for an option
    that would change nothing."""
    require_data(recipe, options.calibration)
    require_possible(recipe, None if options.autotune is None else lambda graph: 0.0)
    if recipe.quantizer != NATIVE:
        refuse(options.given, ("ranges", "percentile"), f"is for the native quantizer, not {recipe.quantizer}")
        if not recipe.is_static():
            refuse(
                options.given, ("calibration", "samples"), f"is for --scheme static with --quantizer {recipe.quantizer}"
            )
    if recipe.precision != "int":
        refuse(options.given, HOW_INT, f"is for --precision int, not {recipe.precision}")
    if recipe.schemes() == {"weight"}:
        refuse(options.given, ("rotate",), "is for activations that are rounded, which the scheme weight leaves")
    if options.calibration is None:
        refuse(options.given, ("samples",), "are drawn from --calibration FILE, which is not given")
    if not recipe.is_static():
        refuse(options.given, ("ranges", "percentile"), "is for --scheme static")
    if recipe.ranges != "percentile":
        refuse(options.given, ("percentile",), f"is for --ranges percentile, not {recipe.ranges}")


def require_task(options: Options, task: Task) -> None:
    """Raises UsageError for an option that the model can't have which is loaded for `task`."""
    if task is not ASK:
        refuse(options.given, ("autotune",), f"judges answers to questions, which {task.name} gives none of")
