"""The model that --model names: float, or quantized and saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from click import UsageError
from torch import fx

import targets
from commands.cache import WITHOUT, cached_or_not
from commands.common import Options, err
from commands.recipe import HOW_INT
from models import InputError, load
from models.loading import load_tokenizer
from models.places import folder_of, resolve
from models.tasks import ASK, ENCODE, Task, task_of
from toolkit import Recipe, checkpoint
from toolkit.adopt import adopted
from toolkit.cache import past_of
from toolkit.report import FROM_INT8, WEIGHTS
from toolkit.whole_texts import drop_cache

QUANTIZED = ("precision", "scheme")  # options that a checkpoint has decided already


def load_any(name: str, task: Task = ASK, cache: bool = False) -> tuple[Any, Any]:
    """→ what `transform` takes, a float model or a quantized graph, with a cache if asked for one and there can be
    one, and the tokenizer. Raises InputError and CheckpointError."""
    kind = _kind(name)
    if kind == "opswap":
        return _load_graph(name, task, cache)
    if kind is None:
        return load(name, task=task)
    foreign = checkpoint.read(Path(folder_of(name)))
    model, tokenizer = load(name, state=foreign.state, task=task)
    prefix = f"{model.base_model_prefix}." if task is ENCODE else ""  # a bare encoder's layers have no prefix
    layers = {key.removeprefix(prefix): layer for key, layer in foreign.layers.items()}
    return cached_or_not(model, lambda one: adopted(one, layers)) if cache else adopted(model, layers), tokenizer


def load_float(name: str, task: Task = ASK, cache: bool = False) -> tuple[Any, Any]:
    """→ the float model and its tokenizer; of a quantized one the model that its weights stand for, and where that is
    no model of transformers' any more the graph, with its cache if asked for"""
    if not is_quantized(name):
        return load(name, task=task)
    place = Path(folder_of(name))
    if not (place / "model.safetensors").exists() and not any(place.glob("model-*.safetensors")):
        graph, tokenizer = _load_graph(name, task, cache)
        return checkpoint.as_floats(graph), tokenizer
    model, tokenizer = load(name, state=checkpoint.read(place).state, task=task)
    setattr(model, WEIGHTS, FROM_INT8)
    return model, tokenizer


def as_float(options: Options) -> Options | None:
    """→ the options at the precision at which a quantized folder's weights are read as floats: the one that was given,
    or the target's own where it has no int; None for a folder whose integers are computed with, and a float model.

    Raises targets.UsageError for --precision int on a target that has no int.
    """
    if not is_quantized(options.model):
        return None
    target, chosen = targets.get(options.target), options.precision
    if "precision" not in options.given:
        chosen = "int" if "int" in target.precisions else target.precisions[0]
    if chosen == "int":
        targets.require_runnable(target, chosen, options.strict)
        return None
    return replace(options, precision=chosen, given=options.given | {"precision"})


def saved_recipe(options: Options, model: Any) -> Recipe | None:
    """→ what a quantized `model` was quantized with, None for a float one. Raises click.UsageError for an option that
    was given and says otherwise, and for a scheme that the target does not have."""
    saved = checkpoint.recipe_of(model)
    if saved is None:
        return None
    target = targets.get(options.target)
    lacks = next(iter(saved.schemes() - set(target.schemes)), None)
    if lacks:
        other = next((one for one in target.precisions if one != "int"), None)
        advice = f"give --precision {other}, for which its weights are read as floats" if other else "quantize again"
        raise UsageError(f"{options.model} has the scheme {lacks}, which target {target.name} has not: {advice}")
    for name in ("recipe", *HOW_INT):
        if name in options.given:
            raise UsageError(f"{options.model} is quantized already, by a recipe of its own: leave --{name} out")
    for name in QUANTIZED:
        was, wanted = getattr(saved, name), getattr(options, name)
        if name in options.given and was != wanted:
            raise UsageError(f"{options.model} was quantized with --{name} {was}, not {wanted}: leave --{name} out")
    return replace(saved, without=options.without) if "without" in options.given else saved


def is_quantized(name: str) -> bool:
    """Whether --model names a model that is in 8 bits already. Raises CheckpointError for one that can't be read."""
    return _kind(name) is not None


def _load_graph(name: str, task: Task, cache: bool) -> tuple[fx.GraphModule, Any]:
    """→ the graph that `quantize` saved, as load_any has it, and the tokenizer"""
    graph: Any = checkpoint.load(Path(resolve(name)))
    made_for = task_of(graph.config, type(graph).__name__) or ASK
    if made_for is not task:
        raise InputError(f"{name} is quantized for `{made_for.name}`, not for `{task.name}`: "
                         f"give the float model, or what `quantize --task {task.name}` makes of it")  # fmt: skip
    if not cache:
        drop_cache(graph)
    elif not past_of(graph):
        err.print(f"{name} is saved as a graph that takes whole texts: {WITHOUT}")
    return graph, load_tokenizer(name, graph.config)


def _kind(name: str) -> str | None:
    """As checkpoint.kind_of; a name from the hub is fetched first."""
    place = Path(resolve(name))
    return checkpoint.kind_of(place) or (None if place.exists() else checkpoint.kind_of(Path(folder_of(name))))
