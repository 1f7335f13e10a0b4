"""The transformed model that the options ask for, and the words and JSON that say what it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from transformers import PreTrainedTokenizerFast

from commands.cache import cached_or_not, runs_cached
from commands.common import Options, err
from commands.device import require_device, to_device
from commands.models import as_float, is_quantized, load_any, load_float, saved_recipe
from commands.passes import shown
from commands.recipe import recipe_of, require_sense, require_task
from commands.tuning import accuracy_on, read_questions
from models.calibration import CalibrationData, read_calibration
from models.memory import keep_freed_memory, nobody_writes
from models.question_answering.examples import Example
from models.tasks import ASK, Task
from models.texts import longest_row
from toolkit import Recipe, report_of, transform
from toolkit.pipeline import captured, quantized
from toolkit.quantizers import NATIVE


@dataclass(frozen=True)
class Ready:
    """A graph that can be called, with its tokenizer, the JSON fields that every result carries, and transformers'
    configuration of the model (and of how it generates, where it does)."""

    graph: fx.GraphModule
    tokenizer: PreTrainedTokenizerFast
    header: dict[str, Any]
    config: Any = None
    generation: Any = None


@dataclass(frozen=True)
class Captured:
    """A graph before fusing and lowering, quantized if `recipe` says so, with its tokenizer and transformers'
    configuration; data: which file was calibrated on, None without one."""

    graph: fx.GraphModule
    recipe: Recipe
    tokenizer: PreTrainedTokenizerFast
    config: Any
    data: dict[str, Any] | None


def prepare(
    options: Options, loaded: tuple[Any, Any] | None = None, task: Task = ASK, native: bool = True, cache: bool = False
) -> Ready:
    """Loads, captures, quantizes and lowers as the options say; one line on standard error says what ran.

    `loaded`: a model and its tokenizer that are there already, instead of the one that the options name; else it is
    loaded for `task`. native: as toolkit.pipeline.lowered takes it. cache: a language model's keys and values are
    inputs and outputs of the graph, where they can be; it then gives the logits of the last token alone.
    """
    cache = cache and runs_cached(options)
    model, tokenizer, recipe, questions = _begin(options, loaded, task, cache)

    def make(**given: Any) -> fx.GraphModule:
        def lowered(one: Any) -> fx.GraphModule:
            how = {"native": native, "last_token": cache, **given}
            return transform(one, recipe, options.target, options.strict, **how)

        return cached_or_not(model, lowered) if cache else lowered(model)

    graph, data = fit(options, questions, tokenizer, model.config, make)
    if options.device:
        to_device(graph, options.device)
    header = header_of(options, graph, data)
    err.print(describe(header))
    return Ready(graph, tokenizer, header, model.config, getattr(model, "generation_config", None))


def _begin(
    options: Options, loaded: tuple[Any, Any] | None, task: Task, cache: bool = False
) -> tuple[Any, PreTrainedTokenizerFast, Recipe, list[Example] | None]:
    """→ the model, float or quantized, its tokenizer, the recipe for it, and the questions of --autotune; raises what
    is wrong with the options, before a float model is loaded"""
    options, wanted = wanted_of(options) if loaded is None else (options, recipe_of(options))
    if wanted is not None:
        require_target(replace(options, precision=wanted.precision))
        require_task(options, task)
        require_sense(options, wanted)
    questions = read_questions(options)
    use_threads(options)
    keep_freed_memory()
    model, tokenizer = loaded or (load_float if wanted else load_any)(options.model, task, cache)
    recipe = saved_recipe(options, model) or wanted or recipe_of(options)
    require_device(options, recipe.precision)
    return model, tokenizer, recipe, questions


def wanted_of(options: Options) -> tuple[Options, Recipe | None]:
    """→ the options, of a quantized folder whose weights are read as floats at the precision at which they are, and
    the recipe that they say; None where the folder's integers are computed with, which has decided all of it"""
    floats = as_float(options)
    if floats is None and is_quantized(options.model):
        return options, None
    return floats or options, recipe_of(floats or options)


def fit(
    options: Options, questions: list[Example] | None, tokenizer: PreTrainedTokenizerFast, config: Any,
    make: Callable[..., fx.GraphModule],
) -> tuple[fx.GraphModule, dict[str, Any] | None]:  # fmt: skip
    """questions: those of --autotune. Calls `make` with the data, folder, progress and accuracy that `transform` and
    `quantized` take, and shows the passes over the data. → what it made, and which file was calibrated on, None without
    one"""
    data = read_data(options, tokenizer, config)
    with shown(data) as passes:
        accuracy = accuracy_on(questions, tokenizer, longest_row(tokenizer, config))
        graph = make(**passes, accuracy=accuracy)
    return graph, {"file": data.file, "samples": data.samples} if data else None


def read_data(options: Options, tokenizer: PreTrainedTokenizerFast, config: Any) -> CalibrationData | None:
    """→ what --calibration names, in rows that the model reads; None without it. Raises InputError."""
    if options.calibration is None:
        return None
    return read_calibration(options.calibration, tokenizer, options.samples, longest_row(tokenizer, config))


def before_lowering(options: Options, task: Task) -> Captured:
    """The first half of `prepare`, for what is written to a file."""
    model, tokenizer, recipe, questions = _begin(options, None, task)
    if recipe.precision != "int":
        return Captured(captured(model, recipe.precision), recipe, tokenizer, model.config, None)
    made, data = fit(options, questions, tokenizer, model.config, lambda **given: quantized(model, recipe, **given))
    return Captured(made, recipe, tokenizer, model.config, data)


def header_of(options: Options, graph: fx.GraphModule, data: dict[str, Any] | None) -> dict[str, Any]:
    """graph: lowered; data: as `fit` says → the JSON fields that every result carries"""
    header: dict[str, Any] = {"model": options.model, **report_of(graph).as_json()}
    if data:
        header["calibration"] = {**data, **(header["calibration"] or {})}
    return header


def require_target(options: Options) -> None:
    """Raises at once, before a model is loaded, what `transform` would raise about the target."""
    import targets

    targets.require_runnable(targets.get(options.target), options.precision, options.strict)
    require_device(options, options.precision)


def use_threads(options: Options) -> None:
    """Makes PyTorch compute on --threads threads; none that this program starts writes to a model's weights."""
    if options.threads:
        torch.set_num_threads(options.threads)
    nobody_writes()


def describe(header: dict[str, Any]) -> str:
    """One line: the model, what was asked for, what runs, how many linears were swapped and kept."""
    target = header["target"]
    how = "native" if target["native"] else f"not native: {target['reason']}"
    scheme = f" {_schemes(header)}" if header["precision"] == "int" else ""
    scheme += f" by {header['quantizer']}" if header["quantizer"] != NATIVE else ""
    scheme += f" (weights: {header['weights']})" if header["weights"] else ""
    return (
        f"{header['model']} on {target['requested']} {header['precision']}{scheme}: runs as {target['executed']} "
        f"({target['isa']}, {how}); {header['swapped']} linears swapped, {len(header['kept'])} kept in float"
    )


def _schemes(header: dict[str, Any]) -> str:
    """→ the scheme of all that was swapped, or how many linears have each"""
    counts = header["schemes"]
    if len(counts) < 2:
        return str(header["scheme"])
    return f"mixed ({', '.join(f'{count} {scheme}' for scheme, count in counts.items())})"
