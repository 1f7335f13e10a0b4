"""A Gaudi card: whether there is one, which, and how a finished graph runs on it.

Eager mode and torch.compile(backend="hpu_backend") are the SDK's default; PT_HPU_LAZY_MODE=1 turns lazy mode on, in
which the graph is recorded once a shape as an HPU graph. Nothing here has run on a real card.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from operators.e4m3 import CHIPS
from targets.base import UsageError

SDK = "habana_frameworks"
NODES = ("/dev/accel", "/dev/hl0")  # the driver's device files, today's and older ones
DEVICE = "hpu"
FORCED = "OPSWAP_GAUDI"  # which chip is emulated: gaudi2 (the default) or gaudi3


@dataclass(frozen=True)
class Card:
    """name: as the SDK says it, e.g. "GAUDI2"; chip: a key of CHIPS; lazy: whether lazy mode is on."""

    name: str
    chip: str
    lazy: bool


def find() -> Card | None:
    """→ the card that the SDK offers; None where there is none, and `missing` says why"""
    return None if missing() else _card()


def missing() -> list[str]:
    """→ what a native run would need and this machine lacks, in words"""
    if importlib.util.find_spec(SDK) is None:
        nodes = "" if any(Path(node).exists() for node in NODES) else f", no device file ({' or '.join(NODES)})"
        return [f"the package {SDK} is not installed{nodes}"]
    try:
        hpu = importlib.import_module(f"{SDK}.torch.hpu")
        importlib.import_module(f"{SDK}.torch.core")  # registers the device with PyTorch
        there = bool(hpu.is_available())
    except (ImportError, OSError, RuntimeError) as error:
        return [f"{SDK} cannot be loaded: {' '.join(str(error).split())}"]
    return [] if there else [f"{SDK} finds no card (torch.hpu.is_available() is False)"]


def emulated_chip() -> str:
    """→ the chip whose FP8 is emulated. Raises UsageError for an unknown name in the environment variable."""
    name = os.environ.get(FORCED, "gaudi2").lower()
    if name not in CHIPS:
        raise UsageError(f"{FORCED} must be one of {', '.join(CHIPS)}; got {name!r}; correct it or leave it out")
    return name


def wrapped(card: Card, precision: str) -> Callable[[fx.GraphModule], Callable[..., Any]]:
    """→ what makes the part that runs on the card of a graph that has been moved there: an HPU graph in lazy mode,
    else compiled by hpu_backend; bfloat16 under autocast, which keeps in float32 what the SDK lists"""

    def wrap(graph: fx.GraphModule) -> Callable[..., Any]:
        if card.lazy:
            hpu, core = (importlib.import_module(f"{SDK}.torch.{name}") for name in ("hpu", "core"))
            run, done = hpu.wrap_in_hpu_graph(graph), core.mark_step
        else:
            run, done = torch.compile(graph, backend="hpu_backend"), lambda: None

        def call(**given: Any) -> Any:
            with torch.autocast(DEVICE, dtype=torch.bfloat16) if precision == "bf16" else nullcontext():
                found = run(**given)
            done()
            return found

        return call

    return wrap


def _card() -> Card:
    name = str(importlib.import_module(f"{SDK}.torch.hpu").get_device_name())
    chip = next((chip for chip in CHIPS if chip in name.lower()), "gaudi2")
    return Card(name, chip, os.environ.get("PT_HPU_LAZY_MODE", "0") == "1")
