"""A gated feed-forward, act(a) · b of the two halves of each row: of floats, or of the sums of a linear layer."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton import launch
from operators.triton.launch import Shape, empty_rows
from operators.triton.levels import Levels, activate, snap_bf16, store_levels
from operators.triton.source import Parts, arguments, load_floats
from operators.validate import require

Rows = tuple[Tensor, Tensor, Tensor]
BLOCK = 1_024  # columns of a program that has no need of a whole row
MANY = 8_192  # of each half: more are held by twice as many warps


@triton.jit
def _gate_kernel(
    x, sx, zx, sw, wsum, bias, y, q, scales, zeros, M, N, fixed_scale, fixed_zero,
    SPLIT: tl.constexpr, SHIFTED: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, SECOND: tl.constexpr,
    FLOATS: tl.constexpr, HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    one = load_floats(x, sx, zx, sw, wsum, bias, rows, columns, inside, M, 2 * N, SPLIT, SHIFTED, BIAS)
    two = load_floats(x, sx, zx, sw, wsum, bias, rows, columns + N, inside, M, 2 * N, SPLIT, SHIFTED, BIAS)
    if SECOND:
        one, two = two, one
    value = activate(one, ACTIVATION) * two
    if FLOATS:
        if SNAP:
            value = snap_bf16(value)
        tl.store(y + rows.to(tl.int64)[:, None] * N + columns[None, :], value.to(y.dtype.element_ty), mask=inside)
    else:
        store_levels(
            value, rows, columns, inside, M, N, q, scales, zeros, fixed_scale, fixed_zero, HOW, FIXED, SNAP, ROTATION
        )


def gate(x: Tensor, activation: str, second: bool, dtype: torch.dtype | None = None) -> Tensor:
    """x [..., 2N] of any float type → [..., N] of `dtype` (None: of x's), computed in float32; activation: one of
    operators.gate.ACTIVATIONS; second: it is of the second half"""
    n = _half(x.shape[-1])
    y = torch.empty((*x.shape[:-1], n), dtype=dtype or x.dtype, device=x.device)
    rows = x.reshape(-1, 2 * n)
    whole = launch.shape(min(n, BLOCK))
    blocks = triton.cdiv(n, whole.COLUMNS)
    levels = Levels("symmetric")  # none are made
    ends = {**launch.constants(levels), "FLOATS": True, "SNAP": launch.snaps(y.dtype)}
    _launch(rows, (y, y, y, y), whole, blocks, levels, {**ends, **_how(activation, second)})
    return y


def gate_rows(x: Tensor | Parts, levels: Levels, activation: str, second: bool) -> Rows:
    """x [M, 2N] of any float type, or the sums of a linear layer → rows [M, N] of act(one half) · the other"""
    source, _, _, (m, columns) = arguments(x)
    n = _half(columns)
    shape = launch.shape(n)
    made = empty_rows(source, m, n, levels)
    ends = {"FLOATS": False, **launch.constants(levels), **_how(activation, second)}
    more = shape._replace(num_warps=16) if shape.COLUMNS > MANY else shape
    _launch(x, (source, *made), more, 1, levels, ends)
    return made


def _half(columns: int) -> int:
    """→ the columns of each half. Raises ValueError."""
    fits = columns > 0 and columns % 2 == 0
    require(fits, "gate: the columns must be two halves of one width", columns, "pass both halves")
    return columns // 2


def _how(activation: str, second: bool) -> dict[str, Any]:
    return {"ACTIVATION": activation, "SECOND": second}


def _launch(x: Tensor | Parts, out: Any, shape: Shape, blocks: int, levels: Levels, ends: dict[str, Any]) -> None:
    source, given, how, (m, columns) = arguments(x.contiguous() if isinstance(x, Tensor) else x)
    if m:
        sizes = m, columns // 2, levels.scale, float(levels.zero_point)
        _gate_kernel[(*shape.grid(m), blocks)](source, *given, *out, *sizes, **how, **ends, **shape._asdict())
