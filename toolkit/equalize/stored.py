"""How linears are best rounded, found once with data: a file in the float model's folder, for whoever has no data."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from targets._json import parse_json
from targets._pages import let_go
from toolkit.in_place import replacing
from toolkit.recipe import Layer, Recipe
from toolkit.tensor_file import save

log = logging.getLogger(__name__)

FILE, FORMAT = "rounding.safetensors", "opswap-rounding-1"
ORIGIN = "opswap_origin"  # in a graph's meta: the folder of the model that it was captured from
PARTS = ("weight", "scale", "shift")

How = tuple[str, bool, int]


@dataclass(frozen=True)
class Rounding:
    """Of one linear. weight int8 [N, K] and scale float32 [N]; shift float32 [N], to be added to its bias where its
    activations are rounded as `how` says."""

    weight: Tensor
    scale: Tensor
    shift: Tensor
    how: How


@dataclass(frozen=True)
class Stored:
    """linears: by key_of; names: theirs, by key, for people who look into the file; clip: whether scales were searched;
    data: file and number of samples, for the report."""

    linears: Mapping[str, Rounding]
    names: Mapping[str, str]
    clip: bool
    data: dict[str, object]


@dataclass(frozen=True)
class Found:
    """linears: by their names; data: what the report says of where it comes from, None where there are none."""

    linears: Mapping[str, Rounding]
    data: dict[str, object] | None


NOTHING = Found({}, None)


def how_of(layer: Layer) -> How:
    """→ what a shift depends on: scheme, symmetric, bits of the activations"""
    return layer.scheme, layer.symmetric, layer.activation_bits


def key_of(linear: nn.Linear) -> str:
    """→ a checksum of weight and bias: what was found holds for these alone, whatever they are called"""
    total = sha256(repr((FORMAT, tuple(linear.weight.shape))).encode())
    for tensor in (linear.weight, linear.bias):
        if tensor is not None and tensor.numel():
            total.update(tensor.detach().float().cpu().contiguous().numpy().data)
            let_go(tensor)
    return total.hexdigest()[:32]


def write(folder: Path, stored: Stored) -> Path:
    """→ the file, in place of an earlier one. Raises OSError."""
    place = folder / FILE
    tensors = {f"{key}.{part}": getattr(r, part) for key, r in stored.linears.items() for part in PARTS}
    hows = {key: r.how for key, r in stored.linears.items()}
    about = {"hows": hows, "names": dict(stored.names), "clip": stored.clip, "data": stored.data}
    with replacing(place) as beside:
        save(tensors, beside, {"format": FORMAT, "about": json.dumps(about)})
    return place


def fitting(origin: str | None, linears: Mapping[str, nn.Linear], recipe: Recipe) -> Found:
    """origin: a model's folder, or another name of it, or none → what lies there for these linears, where the recipe
    wants weights rounded that way; nothing, with a warning, where it is of other weights or can't be read.

    Only the tensors of these linears are read, and nothing where the recipe wants none.
    """
    wanted = {name: linear for name, linear in linears.items() if recipe.layer(name).weight_bits == 8}
    place = Path(origin) / FILE if origin and recipe.compensate and wanted else None
    if place is None or not place.is_file():
        return NOTHING
    keys = {name: key_of(linear) for name, linear in wanted.items()}
    try:
        with safe_open(place, "pt") as file:
            about = _about(file)
            clip, hows, data = bool(about["clip"]), dict(about["hows"]), dict(about["data"])
            fits = recipe.clip == clip
            found = {name: _rounding(file, key, hows[key]) for name, key in keys.items() if fits and key in hows}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        log.warning("%s can't be read (%s): linears are rounded without it; run `calibrate` again", place, error)
        return NOTHING
    if not fits:
        log.warning("%s was found with clip %s, the recipe has %s: not used", FILE, clip, recipe.clip)
    elif not found:
        how, again = ("rotated", "--rotate calibrate") if recipe.rotate else ("not rotated", "calibrate")
        log.warning("%s is of other weights than the model's, %s: not used; run `%s` again", FILE, how, again)
    return Found(found, {**data, "stored": FILE}) if found else NOTHING


def _about(file: Any) -> dict[str, Any]:
    found = file.metadata() or {}
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is {found.get('format')!r}, not {FORMAT!r}")
    return parse_json(found["about"])


def _rounding(file: Any, key: str, how: Any) -> Rounding:
    weight, scale, shift = (file.get_tensor(f"{key}.{part}") for part in PARTS)
    sizes = weight.dim() == 2 and scale.shape == shift.shape == weight.shape[:1]
    if not sizes or (weight.dtype, scale.dtype, shift.dtype) != (torch.int8, torch.float32, torch.float32):
        raise ValueError(f"the tensors of {key} are not int8 [N, K] and twice float32 [N]")
    if not (scale.isfinite().all() and shift.isfinite().all()) or bool((weight == -128).any()):
        raise ValueError(f"the tensors of {key} are not finite, or their levels not within -127..127")
    scheme, symmetric, bits = how
    return Rounding(weight, scale, shift, (str(scheme), bool(symmetric), int(bits)))
