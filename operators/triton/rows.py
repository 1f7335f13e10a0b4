"""Rows of floats → levels; and what is left to do with the sums of a linear layer, row by row."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton import launch
from operators.triton.launch import empty_rows
from operators.triton.levels import Levels, activate, store_levels
from operators.triton.source import Parts, arguments, load_floats

Rows = tuple[Tensor, Tensor, Tensor]


@triton.jit
def _rows_kernel(
    x, sx, zx, sw, wsum, bias, y, q, scales, zeros, M, N, fixed_scale, fixed_zero,
    SPLIT: tl.constexpr, SHIFTED: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, FLOATS: tl.constexpr,
    HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    value = load_floats(x, sx, zx, sw, wsum, bias, rows, columns, inside, M, N, SPLIT, SHIFTED, BIAS)
    value = activate(value, ACTIVATION)
    if FLOATS:
        tl.store(y + rows.to(tl.int64)[:, None] * N + columns[None, :], value.to(y.dtype.element_ty), mask=inside)
    else:
        store_levels(
            value, rows, columns, inside, M, N, q, scales, zeros, fixed_scale, fixed_zero, HOW, FIXED, SNAP, ROTATION
        )


def quantize(x: Tensor, levels: Levels) -> Rows:
    """x [M, N] of any float type → rows"""
    return _to_rows(x.contiguous(), levels, "none")


def gelu_parts(x: Parts, levels: Levels, activation: str) -> Rows:
    """The sums of a linear layer → rows of the GELU of it; activation: which, one of floating.GELUS"""
    return _to_rows(x, levels, activation)


def scale_parts(x: Parts, dtype: torch.dtype, activation: str = "none") -> Tensor:
    """The sums of a linear layer → what it returns, [M, N] of `dtype`; activation: one of floating.ACTIVATIONS"""
    source, given, how, (m, n) = arguments(x)
    y = torch.empty((m, n), dtype=dtype, device=source.device)
    # levels are not made: their places are filled with what is there
    _launch(source, given, (y, y, y, y), (m, n), Levels("symmetric"), {**how, "ACTIVATION": activation, "FLOATS": True})
    return y


def _to_rows(x: Tensor | Parts, levels: Levels, activation: str) -> Rows:
    source, given, how, (m, n) = arguments(x)
    rows = empty_rows(source, m, n, levels)
    _launch(source, given, (source, *rows), (m, n), levels, {**how, "ACTIVATION": activation, "FLOATS": False})
    return rows


def _launch(x: Tensor, given: list[Tensor], out: Any, size: tuple[int, int], levels: Levels, how: Any) -> None:
    if not size[0]:
        return
    shape = launch.shape(size[1])
    fixed = (levels.scale, float(levels.zero_point))
    constants = {**how, **launch.constants(levels), **shape._asdict()}
    _rows_kernel[shape.grid(size[0])](x, *given, *out, *size, *fixed, **constants)
