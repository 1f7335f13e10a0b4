"""What a pass over calibration data has seen so far, in a file: a run that was killed goes on where it was."""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, fx

from operators.own_folder import remove_left
from toolkit.calibrate.place import Place
from toolkit.in_place import replacing
from toolkit.tensor_file import save as save_tensors

log = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]


class Seen(Protocol):
    """What a pass gathers."""

    def see(self, batch: Batch) -> None:
        """Takes a batch in."""

    def state(self) -> dict[str, Tensor]:
        """→ all there is, by name"""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """All of `state` or, where it raises KeyError, ValueError or RuntimeError, nothing."""


@dataclass
class Counts:
    """How much was seen."""

    batches: int = 0
    tokens: int = 0


def flat(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """→ tensors by name/part, as a file has them"""
    return {f"{name}/{part}": tensor for name, found in parts.items() for part, tensor in found.items()}


def nested(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Undoes `flat`."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, part = key.rpartition("/")
        parts.setdefault(name, {})[part] = tensor
    return parts


def key_of(graph: fx.GraphModule, gathered: object, data: Iterable[Batch]) -> str:
    """gathered: what, of which linears → a checksum of that and all it depends on: the graph, its weights, the data"""
    total = hashlib.sha256(repr(gathered).encode())
    total.update(graph.graph.python_code("self").src.encode())  # graph.code may be of before a rewrite
    for name, tensor in sorted(graph.state_dict().items()):
        _update(total, name, tensor)
    for batch in data:
        for name in sorted(batch):
            _update(total, name, batch[name])
    return total.hexdigest()[:32]


def _update(total: "hashlib._Hash", name: str, tensor: Tensor) -> None:
    plain = tensor.detach().cpu().contiguous()
    total.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
    total.update(plain.flatten().view(torch.uint8).numpy().data if plain.numel() else b"")


def load(place: Place, seen: Seen) -> Counts:
    """Puts into `seen` what the file holds of the run that the key is of. → how much; 0 where there is none, or another
    run's"""
    try:
        if not place.lasting:
            remove_left(place.path.parent, re.escape(place.path.name))
        if not place.path.exists():
            return Counts()
        with safe_open(place.path, "pt") as file:
            meta = file.metadata()
            if meta["key"] == place.key:
                counts = Counts(int(meta["batches"]), int(meta["tokens"]))
                # copies, in memory of this process alone: the file may go
                seen.restore({name: file.get_tensor(name).clone() for name in file.keys()})  # noqa: SIM118
                return counts
        log.warning("%s is of another model or other data: calibration begins anew", place.path)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        log.warning("%s can't be read (%s): calibration begins anew", place.path, error)
    return Counts()


def save(place: Place, seen: Seen, counts: Counts) -> None:
    """Writes beside and renames into place: killed at any time, the file is the old or the new one. Raises OSError."""
    with replacing(place.path) as beside:
        about = {"key": place.key, "batches": str(counts.batches), "tokens": str(counts.tokens)}
        save_tensors(seen.state(), beside, about)
