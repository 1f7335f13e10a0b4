"""One product as the target runs it with a tile, on random numbers; and whether its result is right."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from operators.triton import fp8, int8, rows
from operators.triton.tiles import LIBRARY, Tile, fits_library

Call = tuple[Callable[[], Any], Callable[[int], bool]]
FP8_DB = 40.0  # E4M3 sums with the bits that the hardware keeps, and the library's bfloat16 result


def work(kind: str, m: int, n: int, k: int, tile: Tile, device: str = "cuda") -> Call | None:
    """→ what is timed, and correct(rows), which compares the first rows; None where the library takes no such shape"""
    if tile.kernel == LIBRARY and not fits_library(kind, m, n, k):
        return None
    return _int8(m, n, k, tile, device) if kind == "int8" else _fp8(m, n, k, tile, device)


def _int8(m: int, n: int, k: int, tile: Tile, device: str) -> Call:
    made, weight = _int8_numbers(m, n, k, device)
    whole = tile.kernel != LIBRARY and tile.split == 1

    def run() -> torch.Tensor:
        if whole:
            return int8.linear_int8(made, weight, torch.float16, "gelu", tile)
        return rows.scale_parts(int8.linear_int8_parts(made, weight, tile), torch.float16, "gelu")

    def correct(count: int) -> bool:
        sums = int8.linear_int8_parts(made, weight, tile).sums.sum(0, dtype=torch.int32)[:count]
        return torch.equal(sums.double(), made[0][:count].double() @ weight.weight.double().t())

    return run, correct


def _fp8(m: int, n: int, k: int, tile: Tile, device: str) -> Call:
    made, weight = _fp8_numbers(m, n, k, device)

    def run() -> torch.Tensor:
        return fp8.linear_fp8(made, weight, torch.float16, "gelu", tile)

    def correct(count: int) -> bool:
        want = (made[0][:count].double() @ weight.weight.double().t()) * (made[1][:count, None] * weight.scale)
        have = fp8.linear_fp8(made, weight, torch.float32, "none", tile)[:count].double()
        return bool(20 * torch.log10(want.norm() / (have - want).norm()) >= FP8_DB)

    return run, correct


@cache
def _int8_numbers(m: int, n: int, k: int, device: str) -> tuple[Any, int8.Weight]:
    q = torch.randint(-128, 128, (m, k), dtype=torch.int8, device=device)
    w = torch.randint(-127, 128, (n, k), dtype=torch.int8, device=device)
    scale, bias = torch.rand(n, device=device) * 1e-3, torch.randn(n, device=device)
    zero = torch.randint(-128, 128, (m,), dtype=torch.int32, device=device)
    return (q, torch.rand(m, device=device), zero), int8.Weight(w, scale, w.sum(1, dtype=torch.int32), bias, True)


@cache
def _fp8_numbers(m: int, n: int, k: int, device: str) -> tuple[Any, fp8.Weight]:
    q, w = (torch.randn(size, device=device).to(torch.float8_e4m3fn) for size in ((m, k), (n, k)))
    zero = torch.zeros(m, dtype=torch.int32, device=device)
    weight = fp8.Weight(w, torch.rand(n, device=device) + 0.1, None)
    return (q, torch.rand(m, device=device) + 0.1, zero), weight
