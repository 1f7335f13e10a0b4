"""Which tile a product runs with: a fixed table by chip and shape, tiles.json, that benchmarks/tune_cuda.py makes."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton

from operators.triton.launch import interpreted
from operators.validate import require

TABLE = Path(__file__).with_name("tiles.json")
TRITON, LIBRARY = "triton", "library"
INTERPRETER = "interpreter"
FEWEST = 17  # rows that torch._int_mm wants on a GPU


@dataclass(frozen=True)
class Tile:
    """m, n, k: the sizes of a program's tile; warps and stages as Triton takes them; group: rows of tiles that are
    walked through together; split: parts of K, for sums that a later kernel adds up. kernel: TRITON, or LIBRARY for
    torch._int_mm and torch._scaled_mm, where all else means nothing."""

    m: int = 64
    n: int = 128
    k: int = 128
    warps: int = 4
    stages: int = 3
    group: int = 8
    split: int = 1
    kernel: str = TRITON

    def grid(self, m: int, n: int) -> tuple[int, int]:
        return triton.cdiv(m, self.m) * triton.cdiv(n, self.n), self.split

    def whole(self) -> "Tile":
        """→ the same without parts, and of Triton's kernel"""
        return replace(self, split=1, kernel=TRITON)

    def constants(self, k: int) -> dict[str, Any]:
        """→ what the matrix kernels take by name for rows of k"""
        sizes = {"BM": self.m, "BN": self.n, "BK": self.k, "GROUP": self.group, "SPLIT": self.split}
        return {**sizes, "K": k, "num_warps": self.warps, "num_stages": self.stages}


@cache
def chip() -> str:
    """→ "sm_90" for the GPU in use; "interpreter" where Triton interprets"""
    if interpreted():
        return INTERPRETER
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


@cache
def table() -> dict[str, Any]:
    return json.loads(TABLE.read_text("utf-8"))


@cache
def tile_for(kind: str, m: int, n: int, k: int) -> Tile:
    """kind: "int8" or "fp8"; a product [m, k] · [n, k]ᵀ → the first entry of the chip's list that has this n and k, or
    none of its own, does not end before m, and is not the library's where that takes no such product"""
    return choose(kind, m, n, k, chip())


def choose(kind: str, m: int, n: int, k: int, name: str) -> Tile:
    """tile_for, for a chip by its name; one that is not listed has the newest's below it. Raises ValueError."""
    entries = table()["chips"][nearest(name)][kind]
    for entry in entries:
        fits = entry.get("n", n) == n and entry.get("k", k) == k
        tile = Tile(**entry["tile"])
        if fits and m <= entry.get("up_to", m) and (tile.kernel != LIBRARY or fits_library(kind, m, n, k)):
            return tile
    raise ValueError(f"{TABLE.name} wants an entry for every shape; got none for {kind} {m}x{n}x{k}; run tune_cuda")


def fits_library(kind: str, m: int, n: int, k: int) -> bool:
    """Whether PyTorch's kernel takes such a product on a GPU: torch._int_mm wants enough rows and multiples of 8,
    torch._scaled_mm multiples of 16"""
    if kind == "int8":
        return m >= FEWEST and n % 8 == 0 and k % 8 == 0
    return m > 0 and n % 16 == 0 and k % 16 == 0


def nearest(name: str) -> str:
    """→ the chip of the table whose tiles serve `name`"""
    chips = table()["chips"]
    if name in chips:
        return name
    older = [known for known in chips if known.startswith("sm_") and int(known[3:]) <= int(name[3:])]
    require(bool(older), "a GPU of compute capability 8.0 or newer was wanted", name, "use another target")
    return max(older, key=lambda known: int(known[3:]))


def is_tuned(name: str) -> bool:
    """Whether the chip's list was measured on one, rather than chosen by what such chips like in general"""
    return bool(table()["chips"][nearest(name)].get("tuned"))


def as_entry(tile: Tile, **where: int) -> dict[str, Any]:
    """→ an entry of the table: where: up_to, n, k"""
    plain = asdict(Tile())
    return {**where, "tile": {key: value for key, value in asdict(tile).items() if value != plain[key]}}
