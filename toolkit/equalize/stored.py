"""How linears are best rounded, found once with data: a file in the float model's folder, for whoever has no data."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from toolkit.in_place import replacing
from toolkit.recipe import Layer

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
    """linears: by key_of; clip: whether scales were searched; data: file and number of samples, for the report."""

    linears: Mapping[str, Rounding]
    clip: bool
    data: dict[str, object]


def how_of(layer: Layer) -> How:
    """→ what a shift depends on: scheme, symmetric, bits of the activations"""
    return layer.scheme, layer.symmetric, layer.activation_bits


def key_of(linear: nn.Linear) -> str:
    """→ a checksum of weight and bias: what was found holds for these alone, whatever they are called"""
    total = hashlib.sha256(repr((FORMAT, tuple(linear.weight.shape))).encode())
    for tensor in (linear.weight, linear.bias):
        if tensor is not None and tensor.numel():
            total.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return total.hexdigest()[:32]


def write(folder: Path, names: Mapping[str, str], stored: Stored) -> Path:
    """names: of the linears, by key, for people who look into the file. → the file, in place of an earlier one. Raises
    OSError."""
    place = folder / FILE
    tensors = {f"{key}.{part}": getattr(r, part) for key, r in stored.linears.items() for part in PARTS}
    hows = {key: r.how for key, r in stored.linears.items()}
    about = {"hows": hows, "names": dict(names), "clip": stored.clip, "data": stored.data}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(place) as beside:
        try:
            save_file(whole, beside, {"format": FORMAT, "about": json.dumps(about)})
        except SafetensorError as error:  # of a full disk too
            raise OSError(f"{place} can't be written ({error})") from error
    return place


def read(origin: str | None) -> Stored | None:
    """origin: a model's folder, or another name of it, or none → what lies there; None where nothing does, or, with a
    warning, where it can't be read"""
    place = Path(origin) / FILE if origin else None
    if place is None or not place.is_file():
        return None
    try:
        with safe_open(place, "pt") as file:
            found = file.metadata() or {}
            if found.get("format") != FORMAT:
                raise ValueError(f"its format is {found.get('format')!r}, not {FORMAT!r}")
            about = json.loads(found["about"])
            linears = {key: _rounding(file, key, how) for key, how in about["hows"].items()}
        return Stored(linears, bool(about["clip"]), dict(about["data"]))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        log.warning("%s can't be read (%s): linears are rounded without it; run `calibrate` again", place, error)
        return None


def _rounding(file: Any, key: str, how: Any) -> Rounding:
    weight, scale, shift = (file.get_tensor(f"{key}.{part}") for part in PARTS)
    sizes = weight.dim() == 2 and scale.shape == shift.shape == weight.shape[:1]
    if not sizes or (weight.dtype, scale.dtype, shift.dtype) != (torch.int8, torch.float32, torch.float32):
        raise ValueError(f"the tensors of {key} are not int8 [N, K] and twice float32 [N]")
    if not (scale.isfinite().all() and shift.isfinite().all()) or bool((weight == -128).any()):
        raise ValueError(f"the tensors of {key} are not finite, or their levels not within -127..127")
    scheme, symmetric, bits = how
    return Rounding(weight, scale, shift, (str(scheme), bool(symmetric), int(bits)))
