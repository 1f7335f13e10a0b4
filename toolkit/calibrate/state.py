"""What calibration has seen so far, in a file: a run that was killed goes on where it was."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, fx

from toolkit.calibrate.histogram import BINS, Histogram
from toolkit.calibrate.observe import Batch
from toolkit.in_place import replacing
from toolkit.tensor_file import save as save_tensors

log = logging.getLogger(__name__)

FORMAT = "opswap-calibration-1"
PARTS = ("counts", "ends")  # of Histogram.state


@dataclass
class State:
    """histograms: of the linears' inputs, by name; batches and tokens: how many went into them."""

    histograms: dict[str, Histogram] = field(default_factory=dict)
    batches: int = 0
    tokens: int = 0


def key_of(graph: fx.GraphModule, names: Sequence[str], data: Iterable[Batch]) -> str:
    """→ a checksum of all that the histograms depend on: the graph, its weights, the linears, the data"""
    total = hashlib.sha256(repr((FORMAT, BINS, list(names))).encode())
    total.update(graph.code.encode())
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


def load(path: Path | None, key: str, names: Sequence[str]) -> State:
    """→ what the file at `path` holds of the run `key`; a new state where there is none, or another run's"""
    if path is None or not path.exists():
        return State({name: Histogram() for name in names})
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            if meta["key"] == key:
                parts = {name: {part: file.get_tensor(f"{name}/{part}") for part in PARTS} for name in names}
                found = {name: Histogram.from_state(state) for name, state in parts.items()}
                return State(found, int(meta["batches"]), int(meta["tokens"]))
        log.warning("%s is of another model or other data: calibration begins anew", path)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        log.warning("%s can't be read (%s): calibration begins anew", path, error)
    return State({name: Histogram() for name in names})


def save(path: Path, key: str, state: State) -> None:
    """Writes beside and renames into place: killed at any time, the file is the old or the new one. Raises OSError."""
    parts = {f"{name}/{part}": t for name, h in state.histograms.items() for part, t in h.state().items()}
    with replacing(path) as beside:
        save_tensors(parts, beside, {"key": key, "batches": str(state.batches), "tokens": str(state.tokens)})
