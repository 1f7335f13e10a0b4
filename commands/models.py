"""The model that --model names: float, or quantized and saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from click import UsageError

import targets
from commands.cache import WITHOUT, cached_or_not
from commands.common import Options, err
from commands.recipe import HOW_INT
from models import InputError, load
from models.loading import load_tokenizer
from models.places import folder_of, resolve
from models.tasks import ASK, ENCODE, Task, task_of
from targets.base import Target
from toolkit import Recipe, checkpoint
from toolkit.adopt import adopted
from toolkit.cache import past_of
from toolkit.whole_texts import drop_cache

QUANTIZED = ("precision", "scheme")  # options that a checkpoint has decided already


def load_any(name: str, task: Task = ASK, cache: bool = False) -> tuple[Any, Any]:
    """→ what `transform` takes, a float model or a quantized graph, with a cache if asked for one and there can be
    one, and the tokenizer. Raises InputError and CheckpointError."""
    kind = _kind(name)
    if kind == "opswap":
        graph: Any = checkpoint.load(Path(resolve(name)))
        made_for = task_of(graph.config, type(graph).__name__) or ASK
        if made_for is not task:
            raise InputError(f"{name} is quantized for `{made_for.name}`, not for `{task.name}`: "
                             f"give the float model, or what `quantize --task {task.name}` makes of it")  # fmt: skip
        if not cache:
            drop_cache(graph)
        elif not past_of(graph):
            err.print(f"{name} is saved as a graph that takes whole texts: {WITHOUT}")
        return graph, load_tokenizer(name, graph.config.vocab_size)
    if kind is None:
        return load(name, task=task)
    foreign = checkpoint.read(Path(folder_of(name)))
    model, tokenizer = load(name, state=foreign.state, task=task)
    prefix = f"{model.base_model_prefix}." if task is ENCODE else ""  # a bare encoder's layers have no prefix
    layers = {key.removeprefix(prefix): layer for key, layer in foreign.layers.items()}
    return cached_or_not(model, lambda one: adopted(one, layers)) if cache else adopted(model, layers), tokenizer


def load_float(name: str, task: Task = ASK) -> tuple[Any, Any]:
    """→ the float model and its tokenizer; of a quantized one the model that its weights stand for"""
    if not is_quantized(name) or not has_float(name):  # of a quantized one that has none load says so
        return load(name, task=task)
    return load(name, state=checkpoint.read(Path(folder_of(name))).state, task=task)


def has_float(name: str) -> bool:
    """Whether `load_float` finds weights: of a quantized graph that is no model of transformers' any more there are
    none. Raises CheckpointError and InputError."""
    if not is_quantized(name):
        return True
    place = Path(folder_of(name))
    return (place / "model.safetensors").exists() or any(place.glob("model-*.safetensors"))


def saved_recipe(options: Options, model: Any) -> Recipe | None:
    """→ what a quantized `model` was quantized with, None for a float one.

    Raises targets.UsageError for a target that has no such precision, click.UsageError for an option that was given
    and says otherwise.
    """
    saved = checkpoint.recipe_of(model)
    if saved is None:
        return None
    target = targets.get(options.target)
    if saved.precision not in target.precisions:
        lacks = f"{options.model} is quantized, and target {target.name} has no precision {saved.precision!r}"
        raise targets.UsageError(f"{lacks}; {what_instead(target)}")
    for name in ("recipe", *HOW_INT):
        if name in options.given:
            raise UsageError(f"{options.model} is quantized already, by a recipe of its own: leave --{name} out")
    for name in QUANTIZED:
        was, wanted = getattr(saved, name), getattr(options, name)
        if name in options.given and was != wanted:
            raise UsageError(f"{options.model} was quantized with --{name} {was}, not {wanted}: leave --{name} out")
    return replace(saved, without=options.without) if "without" in options.given else saved


def what_instead(target: Target) -> str:
    """→ what to do on a target that has not the precision of quantized folders"""
    has, best = ", ".join(target.precisions), target.precisions[0]
    return f"it has {has}, made of float weights as they are loaded: run the float model there with --precision {best}"


def is_quantized(name: str) -> bool:
    """Whether --model names a model that is in 8 bits already. Raises CheckpointError for one that can't be read."""
    return _kind(name) is not None


def _kind(name: str) -> str | None:
    """As checkpoint.kind_of; a name from the hub is fetched first."""
    place = Path(resolve(name))
    return checkpoint.kind_of(place) or (None if place.exists() else checkpoint.kind_of(Path(folder_of(name))))
