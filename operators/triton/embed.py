"""The sum of a token's embeddings, normalized and quantized."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton import launch
from operators.triton.launch import empty_rows
from operators.triton.layer_norm import Norm, Rows, store_norm
from operators.validate import require


@triton.jit
def _embed_kernel(
    ids1, table1, size1, ids2, table2, size2, ids3, table3, size3, gamma, beta, smooth_scale, smooth_shift,
    y, q, scales, zeros, M, N, eps, fixed_scale, fixed_zero,
    TABLES: tl.constexpr, SMOOTH: tl.constexpr, KEEPS_SUM: tl.constexpr, QUANTIZE: tl.constexpr, RMS: tl.constexpr,
    HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    there = rows < M
    inside = there[:, None] & (columns < N)[None, :]
    value = _lookup(ids1, table1, size1, rows, columns, there, inside, N)
    if TABLES > 1:
        value += _lookup(ids2, table2, size2, rows, columns, there, inside, N)
    if TABLES > 2:
        value += _lookup(ids3, table3, size3, rows, columns, there, inside, N)
    store_norm(
        value, gamma, beta, smooth_scale, smooth_shift, y, q, scales, zeros, rows, columns, inside, M, N, eps,
        fixed_scale, fixed_zero, SMOOTH, KEEPS_SUM, QUANTIZE, RMS, HOW, FIXED, SNAP, ROTATION,
    )  # fmt: skip


@triton.jit
def _lookup(ids, table, size, rows, columns, there, inside, N):
    where = tl.load(ids + rows, mask=there, other=0).to(tl.int64)
    known = ((where >= 0) & (where < size))[:, None]
    found = tl.load(table + where[:, None] * N + columns[None, :], mask=inside & known, other=0.0).to(tl.float32)
    return tl.where(known, found, float("nan"))


def embed_norm(ids: Sequence[Tensor], tables: Sequence[Tensor], how: Norm) -> tuple[Tensor, Rows | None]:
    """ids int64 [M] for each table, tables [V, N] of any float type, up to three → LayerNorm of the sum of what they
    hold there, or the sum, and its rows. An id that its table does not have gives NaN: to refuse it the CPU would have
    to wait."""
    require(len(ids) == len(tables) in (1, 2, 3), "embed_norm: one to three tables were wanted", len(tables), "fix it")
    m, n = ids[0].shape[0], tables[0].shape[1]
    y = torch.empty((m, n), dtype=how.dtype, device=tables[0].device)
    levels = how.any_levels()
    rows = empty_rows(y, m if how.levels else 0, n, levels)
    if m:
        looked_up: list[Tensor | int] = []
        for places, table in zip(ids, tables, strict=True):
            looked_up += [places.contiguous(), table.contiguous(), table.shape[0]]
        looked_up += looked_up[:3] * (3 - len(tables))
        shape = launch.shape(n)
        constants = {"TABLES": len(tables), **how.constants(), **shape._asdict()}
        fixed = (levels.scale, float(levels.zero_point))
        _embed_kernel[shape.grid(m)](*looked_up, *how.vectors(), y, *rows, m, n, how.eps, *fixed, **constants)
    return y, rows if how.levels else None
