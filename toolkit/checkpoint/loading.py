"""A folder that `save` wrote → the quantized graph, as it was before lowering. No float weight is made on the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from transformers import AutoConfig, GenerationConfig

from targets._json import parse_json
from targets.base import UsageError
from toolkit.checkpoint import arguments, folder, layers, layout, program
from toolkit.checkpoint.errors import CheckpointError
from toolkit.checkpoint.saving import CONFIG, GENERATION, GRAPH, OWN, READABLE, VERSION, WEIGHTS
from toolkit.inputs import KEY as INPUTS
from toolkit.inputs import guard
from toolkit.recipe import LM_HEAD, Recipe
from toolkit.recipe_file import parse

RECIPE = "opswap_recipe"  # in the meta of a graph that came from a checkpoint


def kind_of(place: Path) -> str | None:
    """→ "opswap" for a folder that `save` wrote, "compressed-tensors" for one in that layout made elsewhere, None for
    any other model. Raises CheckpointError for a model that is quantized in another way."""
    folder.recover(place)
    if (place / GRAPH).is_file():
        return "opswap"
    try:
        config = parse_json((place / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return None  # whoever loads it says what is wrong with it
    quantized = config.get("quantization_config") if isinstance(config, dict) else None
    if not quantized:
        return None
    method = quantized.get("quant_method") if isinstance(quantized, dict) else None
    if method != layout.METHOD:
        raise CheckpointError(
            f"{place} is quantized by {method!r}: {layout.METHOD} (int8) and float models can be read"
        )
    return layout.METHOD


def load(place: Path) -> fx.GraphModule:
    """→ a graph that `transform` takes in the place of a model, with transformers' config as `graph.config`, and a
    language model's generation_config; it runs by itself too, slowly. recipe_of(graph) is what it was quantized with.

    The weights are read where they lie: memory-mapped. Raises CheckpointError.
    """
    folder.recover(place)
    try:
        document = parse_json((place / GRAPH).read_text("utf-8"))
        if document["version"] not in READABLE:
            raise CheckpointError(f"{place} has version {document['version']}, {VERSION} can be read: quantize again")
        graph = _graph(document, _tensors(place))
        recipe = _recipe(document["recipe"])
        if document["version"] == 1:  # LM_HEAD was among the patterns of KEEP
            recipe = replace(recipe, keep=tuple(pattern for pattern in recipe.keep if pattern != LM_HEAD))
        guard(graph, arguments.from_json(document["inputs"]))
        graph.meta.update({name: value for name, value in document["noted"].items() if value is not None})
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if (place / GENERATION).exists():
            how: Any = GenerationConfig.from_pretrained(place)
            graph.generation_config = how
    except (
        OSError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        SyntaxError,
        SafetensorError,
        ValueError,
        RecursionError,
    ) as error:
        if isinstance(error, CheckpointError | PermissionError):
            raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"the checkpoint {place} is damaged ({why}): copy the folder again") from error
    return adopt(graph, recipe, config)


def adopt(graph: fx.GraphModule, recipe: Recipe, config: Any) -> fx.GraphModule:
    """Makes a quantized graph one that counts as loaded."""
    graph.meta[RECIPE], graph.config = recipe, config
    return graph


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """→ a graph once more, over the same tensors, for one target to rewrite; it doesn't count as a loaded one"""
    copy = program.copied(graph)
    guard(copy, copy.meta[INPUTS])
    copy.meta.pop(RECIPE, None)
    return copy


def recipe_of(model: nn.Module) -> Recipe | None:
    """→ what a graph that `load` gave was quantized with, None for any other model"""
    return model.meta.get(RECIPE) if isinstance(model, fx.GraphModule) else None


def _tensors(place: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in (OWN, WEIGHTS):
        if (place / name).exists():
            (place / name).open("rb").close()  # of one that may not be read safetensors says that it is missing
            found |= load_file(place / name)
    return found


def _graph(document: dict[str, Any], tensors: dict[str, Tensor]) -> fx.GraphModule:
    tensors |= {name: tensors[first] for name, first in document["same"].items()}
    attributes: dict[str, Any] = {
        name: nn.Parameter(value, requires_grad=False) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    attributes |= {name: layers.build(name, kind, tensors).eval() for name, kind in document["layers"].items()}
    return program.from_json(document, attributes, document["class"])


def _recipe(text: str) -> Recipe:
    try:
        return parse(text, "the recipe")
    except UsageError as error:
        raise CheckpointError(f"{error}: the checkpoint is of another version, quantize the model again") from error
