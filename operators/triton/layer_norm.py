"""Residual + LayerNorm or RMSNorm + quantize: one pass over the rows, which stay in registers."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton import launch
from operators.triton.launch import empty_rows
from operators.triton.levels import Levels, store_levels
from operators.triton.source import Parts, arguments, load_floats
from operators.validate import require

Rows = tuple[Tensor, Tensor, Tensor]


class Norm(NamedTuple):
    """gamma, beta float32 [N]; y comes out in `dtype`, and with `levels` its rows do too, those of
    y · smooth[0] + smooth[1] where `smooth` is given, both float32 [N]; keeps_sum: the rows do, and in the place of y
    what was normalized; rms: RMSNorm, which does not subtract the mean, in the place of LayerNorm"""

    gamma: Tensor
    beta: Tensor
    eps: float
    dtype: torch.dtype
    levels: Levels | None
    smooth: tuple[Tensor, Tensor] | None = None
    keeps_sum: bool = False
    rms: bool = False

    def vectors(self) -> tuple[Tensor, ...]:
        """→ gamma, beta and smooth, as the kernels take them"""
        return self.gamma, self.beta, *(self.smooth or (self.gamma, self.beta))

    def any_levels(self) -> Levels:
        """→ levels, or any where there are none"""
        return self.levels or Levels("symmetric")

    def constants(self) -> dict[str, object]:
        """→ what store_norm takes by name. Raises ValueError."""
        todo = "give levels, or add without a norm"
        require(
            not self.keeps_sum or self.levels is not None, "norm: a sum must be kept beside rows", "no levels", todo
        )
        own = {"SMOOTH": self.smooth is not None, "KEEPS_SUM": self.keeps_sum, "QUANTIZE": self.levels is not None}
        return {**own, "RMS": self.rms, **launch.constants(self.any_levels())}


@triton.jit
def smoothed(y, smooth_scale, smooth_shift, columns, N, SMOOTH: tl.constexpr):
    """y [R, C] → what is quantized of it"""
    if SMOOTH:
        across = columns < N
        scale = tl.load(smooth_scale + columns, mask=across, other=0.0)[None, :]
        y = y * scale + tl.load(smooth_shift + columns, mask=across, other=0.0)[None, :]
    return y


@triton.jit
def normalize(value, gamma, beta, eps, columns, inside, N, RMS: tl.constexpr):
    """value float32 [R, C], zeros outside → its LayerNorm, the variance around the mean in a second sweep; or its
    RMSNorm"""
    if RMS:
        centred = value
    else:
        mean = tl.sum(value, 1, keep_dims=True) / N
        centred = tl.where(inside, value - mean, 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, 1, keep_dims=True) / N + eps)
    g = tl.load(gamma + columns, mask=columns < N, other=0.0)[None, :]
    b = tl.load(beta + columns, mask=columns < N, other=0.0)[None, :]
    return centred * inverse * g + b


@triton.jit
def store_norm(
    value, gamma, beta, smooth_scale, smooth_shift, y, q, scales, zeros, rows, columns, inside, M, N, eps,
    fixed_scale, fixed_zero, SMOOTH: tl.constexpr, KEEPS_SUM: tl.constexpr, QUANTIZE: tl.constexpr, RMS: tl.constexpr,
    HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
):  # fmt: skip
    """value float32 [R, C], zeros outside, all of R rows → y and rows, as Norm says"""
    at = y + rows.to(tl.int64)[:, None] * N + columns[None, :]
    if KEEPS_SUM:
        tl.store(at, value.to(y.dtype.element_ty), mask=inside)
    value = normalize(value, gamma, beta, eps, columns, inside, N, RMS)
    if not KEEPS_SUM:
        tl.store(at, value.to(y.dtype.element_ty), mask=inside)
    if QUANTIZE:
        value = smoothed(value, smooth_scale, smooth_shift, columns, N, SMOOTH)
        store_levels(
            value, rows, columns, inside, M, N, q, scales, zeros, fixed_scale, fixed_zero, HOW, FIXED, SNAP, ROTATION
        )


@triton.jit
def _norm_kernel(
    x, sx, zx, sw, wsum, bias, residual, gamma, beta, smooth_scale, smooth_shift,
    y, q, scales, zeros, M, N, eps, fixed_scale, fixed_zero,
    SPLIT: tl.constexpr, SHIFTED: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
    SMOOTH: tl.constexpr, KEEPS_SUM: tl.constexpr, QUANTIZE: tl.constexpr, RMS: tl.constexpr,
    HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    value = load_floats(x, sx, zx, sw, wsum, bias, rows, columns, inside, M, N, SPLIT, SHIFTED, BIAS)
    if RESIDUAL:
        at = residual + rows.to(tl.int64)[:, None] * N + columns[None, :]
        value += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    value = tl.where(inside, value, 0.0)
    store_norm(
        value, gamma, beta, smooth_scale, smooth_shift, y, q, scales, zeros, rows, columns, inside, M, N, eps,
        fixed_scale, fixed_zero, SMOOTH, KEEPS_SUM, QUANTIZE, RMS, HOW, FIXED, SNAP, ROTATION,
    )  # fmt: skip


def norm(x: Tensor, residual: Tensor | None, how: Norm) -> tuple[Tensor, Rows | None]:
    """x [M, N], residual [M, N] or None, of any float types → LayerNorm(x + residual), or the sum, and its rows"""
    return _norm(x.contiguous(), residual, how)


def norm_parts(x: Parts, residual: Tensor | None, how: Norm) -> tuple[Tensor, Rows | None]:
    """The sums of a linear layer, residual [M, N] → LayerNorm(linear + residual), or the sum, and its rows"""
    return _norm(x, residual, how)


def _norm(x: Tensor | Parts, residual: Tensor | None, how: Norm) -> tuple[Tensor, Rows | None]:
    source, given, constants, (m, n) = arguments(x)
    y = torch.empty((m, n), dtype=how.dtype, device=source.device)
    levels = how.any_levels()
    rows = empty_rows(source, m if how.levels else 0, n, levels)
    if m:
        shape = launch.shape(n)
        added = y if residual is None else residual.contiguous()
        tensors = (source, *given, added, *how.vectors(), y, *rows)
        constants = {**constants, "RESIDUAL": residual is not None, **how.constants(), **shape._asdict()}
        fixed = (levels.scale, float(levels.zero_point))
        _norm_kernel[shape.grid(m)](*tensors, m, n, how.eps, *fixed, **constants)
    return y, rows if how.levels else None
