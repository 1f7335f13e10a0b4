"""A quantized graph → a folder that transformers, vLLM and `load` read."""

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from transformers import PreTrainedModel

from targets._json import parse_json
from toolkit import tensor_file
from toolkit.checkpoint import arguments, folder, layers, layout, program
from toolkit.checkpoint.errors import CheckpointError
from toolkit.inputs import KEY as INPUTS
from toolkit.recipe import Recipe
from toolkit.recipe_file import dump
from toolkit.report import CALIBRATED, ELSEWHERE, EQUALIZED, KEPT, QUANTIZER, TERMS

VERSION, READABLE = 3, (1, 2, 3)  # 1: from before a graph could have a cache; 2: before rows could be rotated
NOTED = (KEPT, CALIBRATED, EQUALIZED, TERMS, ELSEWHERE, QUANTIZER)  # in the graph's meta, for the report
POOLER = r"re:pooler(\..*)?"  # all linears of it, as a pattern of compressed-tensors
CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
GRAPH, OWN = "opswap.json", "opswap.safetensors"  # the graph, and the tensors that only it has
SMOOTHING = "smooth_"  # how toolkit.equalize.smooth begins the names of what it adds


@dataclass(frozen=True)
class Saved:
    """layers: in 8 bits; bytes: of all files; portable: None, or why no other program can read the folder"""

    layers: int
    bytes: int
    portable: str | None


def save(graph: fx.GraphModule, model: nn.Module, recipe: Recipe, place: Path,
         extra: Callable[[Path], object] = lambda folder: None) -> Saved:  # fmt: skip
    """graph: quantized, not lowered; model: what it was captured from; extra: writes more files (the tokenizer's).

    Either the whole folder is at `place` afterwards, or what was there before. Raises CheckpointError for a place
    that holds anything else than a checkpoint, and for a graph that can't be written down.
    """
    require_free(place)
    kinds = {name: layers.kind_of(name, graph.get_submodule(name)) for name in _targets(graph, "call_module")}
    tensors = {name: _read(graph, name).detach() for name in _targets(graph, "get_attr")}
    for name in kinds:
        tensors |= {f"{name}.{leaf}": value for leaf, value in layers.tensors_of(graph.get_submodule(name)).items()}
    tensors, same = _each_once(tensors)
    quantized = {name: kind for name, kind in kinds.items() if kind["kind"] in (layers.INT8, layers.WEIGHT)}
    foreign, why = _of_the_model(model, tensors, quantized)
    if any(kind["kind"] == layers.ROTATED for kind in kinds.values()):
        foreign, why = {}, "its linears read rotated rows; others can read it without --rotate"
    own = {name: value for name, value in tensors.items() if name not in foreign}
    document = {
        "version": VERSION,
        "torch": torch.__version__,
        "class": type(model).__name__,
        "recipe": dump(recipe),
        "inputs": arguments.to_json(graph.meta[INPUTS]),
        "noted": {name: graph.meta.get(name) for name in NOTED},
        "layers": kinds,
        "same": same,
        **program.to_json(graph),
    }

    def write(new: Path) -> None:
        _json(_config(model, quantized, why), new / CONFIG)
        how: Any = getattr(model, "generation_config", None)
        if how is not None:
            _json(json.loads(how.to_json_string()), new / GENERATION)
        extra(new)
        _tensors(own, new / OWN)
        if why is None:
            _tensors(foreign, new / WEIGHTS)
        document["files"] = sorted([*(path.name for path in new.iterdir()), GRAPH])
        _json(document, new / GRAPH)

    folder.replace(place, write)
    return Saved(len(quantized), sum(path.stat().st_size for path in place.iterdir()), why)


def require_free(place: Path) -> None:
    """Raises CheckpointError unless `place` is new, empty, or a checkpoint of ours with nothing else in it, and can be
    written."""
    folder.require_writable(place)
    if not place.exists():
        return
    if not place.is_dir():
        raise CheckpointError(f"{place} is a file: give a folder")
    there = {path.name for path in place.iterdir()}
    try:
        ours = set(parse_json((place / GRAPH).read_text("utf-8"))["files"]) if GRAPH in there else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    strange = sorted(there - ours)
    if strange:
        raise CheckpointError(
            f"{place} holds {strange[0]}, which is of no checkpoint that this program wrote: give another folder"
        )


def _of_the_model(
    model: nn.Module, tensors: dict[str, Tensor], quantized: dict[str, Any]
) -> tuple[dict[str, Tensor], str | None]:
    """→ the tensors by the names that transformers loads the model with, and why there are none if there are none"""
    state, linears = model.state_dict(), {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    buffers = {name for name, _ in model.named_buffers()}
    odd = sorted(quantized.keys() - linears)
    if odd:
        return {}, f"{odd[0]} is no torch.nn.Linear in transformers' {type(model).__name__}"
    scales = {f"{name}{leaf}" for name in quantized for leaf in layout.PARAMETERS}
    strange = sorted(tensors.keys() - state.keys() - buffers - scales)
    if strange:
        why = f"the graph computes with {strange[0]}, which transformers' {type(model).__name__} lacks"
        return {}, f"{why}{_way_out(strange[0])}"
    found = {name: value for name, value in tensors.items() if name in state or name in scales}
    packed = {f"{name}.weight" for name, kind in quantized.items() if kind["kind"] == layers.WEIGHT}
    unused = {name: value.detach() for name, value in state.items() if name not in (found.keys() | packed)}
    each, same = _each_once({**found, **unused})
    if _is_untied(model, quantized):  # transformers ties nothing of such a model, biases neither
        each |= {name: each[first].clone() for name, first in same.items()}
    return each, None


def _way_out(name: str) -> str:
    """name: of a tensor that only the graph has → how to do without, if there is a way"""
    step = "smooth" if name.startswith(SMOOTHING) else "correct_bias" if name.endswith(".bias") else None
    return "" if step is None else f"; a recipe with '{step}: false' keeps it out"


def _is_untied(model: nn.Module, quantized: Collection[str]) -> bool:
    """Whether a quantized linear has integers of a weight that the model shares with an embedding"""
    state = model.state_dict()
    times = Counter(value.data_ptr() for value in state.values())
    return any(times[state[f"{name}.weight"].data_ptr()] > 1 for name in quantized if f"{name}.weight" in state)


def _each_once(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """→ one name for each tensor, as safetensors wants it, and the other names with the one that stayed"""
    first: dict[Any, str] = {}
    same = {}
    for name, value in tensors.items():
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else name
        if first.setdefault(key, name) != name:
            same[name] = first[key]
    return {name: value for name, value in tensors.items() if name not in same}, same


def _config(model: nn.Module, quantized: dict[str, Any], why: str | None) -> dict[str, Any]:
    config: Any = model.config
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    found |= {"architectures": [type(model).__name__], "dtype": "float32"}
    if _is_untied(model, quantized):
        found["tie_word_embeddings"] = False  # else the head would be given the embedding's table
    if why is None:
        linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        output: Any = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
        head = next((name for name, module in linears.items() if module is output), None)
        ignored = [name for name in linears if name not in quantized]
        if getattr(model, "pooler", model) is None:  # its class has one, for which transformers would want integers
            ignored.append(POOLER)
        found["quantization_config"] = layout.write(quantized, ignored, head)
    return found


def _targets(graph: fx.GraphModule, op: str) -> list[str]:
    return list(dict.fromkeys(str(node.target) for node in graph.graph.nodes if node.op == op))


def _read(graph: fx.GraphModule, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    return getattr(graph.get_submodule(owner), leaf)


def _tensors(tensors: dict[str, Tensor], path: Path) -> None:
    tensor_file.save(tensors, path, {"format": "pt"})
    path.chmod((path.parent / CONFIG).stat().st_mode)  # safetensors makes it the owner's alone
    folder.step(path.name)


def _json(value: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", "utf-8")
    folder.step(path.name)
