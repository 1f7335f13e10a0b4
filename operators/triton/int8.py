"""The INT8 linear layer on rows: int8 × int8 → int32, then what the layer's end asks for, in the same kernel."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton.levels import Levels, activate, fixed_levels
from operators.triton.matmul import multiply, swizzle
from operators.triton.source import Parts, scaled
from operators.triton.tiles import LIBRARY, Tile, tile_for
from operators.validate import require

Rows = tuple[Tensor, Tensor, Tensor]
FLOATS, SUMS, LEVELS = "floats", "sums", "levels"


class Weight(NamedTuple):
    """weight int8 [N, K], scale float32 [N], total int32 [N], bias float32 [N] or None; shifted: whether the rows that
    come have zero points other than 0"""

    weight: Tensor
    scale: Tensor
    total: Tensor
    bias: Tensor | None
    shifted: bool


@triton.jit
def _linear_int8_kernel(
    q, w, sx, zx, sw, wsum, bias, out, scales, zeros, M, N, fixed_scale, fixed_zero,
    OUT: tl.constexpr, SHIFTED: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, HOW: tl.constexpr,
    K: tl.constexpr, SPLIT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    m, n = swizzle(M, N, BM, BN, GROUP)
    part = tl.program_id(1)
    acc = multiply(q, w, M, N, m, n, part, tl.zeros((BM, BN), tl.int32), K, SPLIT, BM, BN, BK)
    rows, columns = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    at = rows.to(tl.int64)[:, None] * N + columns[None, :]
    if OUT == "sums":
        tl.store(out + (rows + part * M).to(tl.int64)[:, None] * N + columns[None, :], acc, mask=inside)
    else:
        y = activate(scaled(acc, sx, zx, sw, wsum, bias, rows, columns, M, N, SHIFTED, BIAS), ACTIVATION)
        if OUT == "floats":
            tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)
        else:
            tl.store(out + at, _to_levels(y, sx, scales, zeros, rows, n, M, fixed_scale, fixed_zero, HOW), mask=inside)


@triton.jit
def _to_levels(y, sx, scales, zeros, rows, n, M, fixed_scale, fixed_zero, HOW: tl.constexpr):
    """y float32 [BM, BN] → int8 by the given scale; a row is bad where the one that came in was"""
    there = rows < M
    came = tl.load(sx + rows, mask=there, other=1.0)
    good = came == came
    scale, zero = tl.zeros_like(came) + fixed_scale, tl.zeros_like(came) + fixed_zero
    level = tl.where(good[:, None], fixed_levels(y, scale[:, None], zero[:, None], HOW), zero[:, None])
    first = there & (n == 0)
    tl.store(scales + rows, tl.where(good, scale, float("nan")), mask=first)
    tl.store(zeros + rows, zero.to(tl.int32), mask=first)
    return level.to(tl.int8)


def linear_int8(
    rows: Rows, weight: Weight, dtype: torch.dtype, activation: str = "none", tile: Tile | None = None
) -> Tensor:
    """rows [M, K] → [M, N] of `dtype`: multiplied, scaled, with bias and activation, one of floating.ACTIVATIONS"""
    out = torch.empty((rows[0].shape[0], weight.weight.shape[0]), dtype=dtype, device=rows[0].device)
    _launch(rows, weight, (out, out, out), FLOATS, activation, Levels("symmetric"), _whole(rows, weight, tile))
    return out


def linear_int8_levels(rows: Rows, weight: Weight, levels: Levels, activation: str, tile: Tile | None = None) -> Rows:
    """rows [M, K] → rows [M, N] by a scale that is given (levels.scale > 0), not rotated, in one pass

    A row that comes with the scale NaN leaves with it. What a good row's numbers cannot do is overflow: the largest
    sum is 2**31, and only scales beyond 1e14 would take it out of float32's range.
    """
    require(levels.scale > 0, "linear_int8_levels wants a scale that is given", levels.scale, "use gelu_parts")
    # a tile may be narrower than a block that is rotated
    require(not levels.rotation, "linear_int8_levels rotates no rows", levels.rotation, "use gelu_parts")
    m, n = rows[0].shape[0], weight.weight.shape[0]
    q = torch.empty((m, n), dtype=torch.int8, device=rows[0].device)
    scale, zero = torch.empty_like(rows[1]), torch.empty_like(rows[2])
    _launch(rows, weight, (q, scale, zero), LEVELS, activation, levels, _whole(rows, weight, tile))
    return q, scale, zero


def linear_int8_parts(rows: Rows, weight: Weight, tile: Tile | None = None) -> Parts:
    """rows [M, K] → the integer sums alone, in tile.split parts, or as torch._int_mm makes them"""
    m, (n, k) = rows[0].shape[0], weight.weight.shape
    tile = tile or tile_for("int8", m, n, k)
    if tile.kernel == LIBRARY:
        sums = _library(rows[0], weight.weight)
    else:
        sums = torch.empty((tile.split, m, n), dtype=torch.int32, device=rows[0].device)
        _launch(rows, weight, (sums, sums, sums), SUMS, "none", Levels("symmetric"), tile)
    return Parts(sums, rows[1], rows[2], weight.scale, weight.total, weight.bias, weight.shifted)


def _library(q: Tensor, weight: Tensor) -> Tensor:
    return torch._int_mm(q, weight.t())[None]


def _whole(rows: Rows, weight: Weight, tile: Tile | None) -> Tile:
    """→ the tile for a kernel that ends in more than sums: it needs all of K at once"""
    return (tile or tile_for("int8", rows[0].shape[0], *weight.weight.shape)).whole()


def _launch(
    rows: Rows, weight: Weight, out: tuple[Tensor, Tensor, Tensor], end: str, activation: str, levels: Levels,
    tile: Tile,
) -> None:  # fmt: skip
    q, scale, zero = rows
    (m, k), n = q.shape, weight.weight.shape[0]
    if not m or not n:
        return
    bias = weight.scale if weight.bias is None else weight.bias
    given = (q.contiguous(), weight.weight, scale, zero, weight.scale, weight.total, bias)
    ends = {"OUT": end, "ACTIVATION": activation, "HOW": levels.how, "BIAS": weight.bias is not None}
    _linear_int8_kernel[tile.grid(m, n)](
        *given, *out, m, n, levels.scale, float(levels.zero_point),
        SHIFTED=weight.shifted, **ends, **tile.constants(k),
    )  # fmt: skip
