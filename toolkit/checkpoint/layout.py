"""The compressed-tensors layout, formats int-quantized and, for float activations, pack-quantized: its
quantization_config, written and read.

Names and rules as in the package compressed-tensors 0.20, which transformers and vLLM read such folders with:
quantization/quant_config.py, quantization/quant_args.py, utils/match.py, compressors/pack_quantized.
"""

import re
from collections.abc import Mapping
from typing import Any

from toolkit.checkpoint.errors import CheckpointError

METHOD, FORMAT, PACKED, MIXED = "compressed-tensors", "int-quantized", "pack-quantized", "mixed-precision"
READ = (FORMAT, "naive-quantized", PACKED, MIXED)  # the first two: one layout under two names
# what a quantized layer has besides its own
PARAMETERS = (".weight_scale", ".input_scale", ".input_zero_point", ".weight_packed", ".weight_shape")
WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
Config = dict[str, Any]


def write(layers: Mapping[str, Mapping[str, Any]], ignored: list[str], head: str | None) -> Config:
    """layers: the quantized ones by their names, as layers.kind_of says; ignored: the other linears of the model; head:
    the name of the one that makes a language model's logits

    The commonest kind is said once for all linears, the others by the layers' names. The head is always named: vLLM's
    class for it is no Linear, and it takes the head for float where only Linear is a target.
    """
    groups: dict[str, list[str]] = {}
    for name, kind in layers.items():
        groups.setdefault(str(activations(kind)), []).append(name)
    order = sorted(groups.values(), key=len, reverse=True)
    made = {}
    for number, names in enumerate(order):
        targets = ["Linear", *(name for name in names if name == head)] if number == 0 else sorted(names)
        inputs = activations(layers[names[0]])
        made[f"group_{number}"] = {
            "targets": targets,
            "weights": WEIGHTS,
            "input_activations": inputs,
            "format": PACKED if inputs is None else FORMAT,
        }
    formats = {group["format"] for group in made.values()}
    return {
        "quant_method": METHOD,
        "format": formats.pop() if len(formats) == 1 else MIXED,
        "quantization_status": "compressed",
        "config_groups": made,
        "ignore": sorted(ignored),
    }


def activations(kind: Mapping[str, Any]) -> Config | None:
    """→ how the inputs of such a layer are quantized, None where they stay in float"""
    if kind["kind"] == "weight":
        return None
    args = {"num_bits": 8, "type": "int", "symmetric": kind["symmetric"]}
    return {**args, "strategy": "tensor" if kind["static"] else "token", "dynamic": not kind["static"]}


def read(config: Config, layers: list[str]) -> dict[str, Config]:
    """layers: those that the folder has int8 weights of → each one's kind, as layers.kind_of says it.

    Raises CheckpointError for a scheme that can't be computed here.
    """
    if config.get("format") not in READ:
        raise CheckpointError(f"the format {config.get('format')!r} can't be read: {' and '.join(READ)} can")
    for extra in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        if config.get(extra):
            raise CheckpointError(
                f"the quantization_config has a {extra}, which can't be computed here: save without it"
            )
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise CheckpointError("the quantization_config names no config_groups: presets and other layouts can't be read")
    return {name: _kind(name, _group_of(name, groups)) for name in layers}


def _group_of(name: str, groups: dict[str, Config]) -> Config:
    """→ the group with the closest target: the name itself, then a regular expression, then the class Linear"""
    for matches in (
        lambda target: target == name,
        lambda target: target.startswith("re:") and re.match(target.removeprefix("re:"), name) is not None,
        lambda target: target == "Linear",
    ):
        for group in groups.values():
            if any(matches(target) for target in group.get("targets", [])):
                return group
    raise CheckpointError(f"the layer {name} has int8 weights, and no group of the quantization_config is for it")


def _kind(name: str, group: Config) -> Config:
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    _require_int8(f"the weights of {name}", weights)
    if not weights.get("symmetric", True) or weights.get("strategy") not in ("channel", "tensor"):
        how = f"{'' if weights.get('symmetric', True) else 'a'}symmetric, one scale a {weights.get('strategy')}"
        raise CheckpointError(
            f"the weights of {name} are {how}: symmetric with one scale a channel or tensor can be read"
        )
    if group.get("output_activations"):
        raise CheckpointError(f"the layer {name} quantizes its outputs, which can't be computed here: save without it")
    if inputs is None:
        return {"kind": "weight"}
    _require_int8(f"the inputs of {name}", inputs)
    found = inputs.get("strategy", "tensor"), inputs.get("dynamic", False)
    if found in (("token", True), ("tensor", False)):
        return {"kind": "int8", "symmetric": bool(inputs.get("symmetric", True)), "static": not found[1]}
    how = f"{'dynamic' if found[1] else 'static'}, one scale a {found[0]}"
    raise CheckpointError(f"the inputs of {name} are {how}: dynamic a token and static a tensor can be computed")


def _require_int8(what: str, args: Config) -> None:
    got = f"{args.get('type', 'int')}{args.get('num_bits', 8)}"
    if got != "int8":
        raise CheckpointError(f"{what} are {got}: int8 can be computed")
