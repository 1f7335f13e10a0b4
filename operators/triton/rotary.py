"""Heads turned by the position of their token: opswap::rotary, the reference's bits but for heads that are normalized
before."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.rotary import check
from operators.triton import launch
from operators.triton.levels import snap_bf16


@triton.jit
def _rotary_kernel(
    x, cos, sin, weight, y, M, W, angles, turned, eps, SIZE: tl.constexpr, PART: tl.constexpr,
    PAIRS: tl.constexpr, NORMED: tl.constexpr, SNAP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows, head = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1)
    columns = tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < SIZE)[None, :]
    at = rows.to(tl.int64)[:, None] * W + head * SIZE
    value = tl.load(x + at + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    gains = weight + head * SIZE
    if NORMED:
        normal = inside & (head < turned)
        scale = tl.rsqrt(tl.sum(value * value, 1) / SIZE + eps)
        gain = tl.load(gains + columns[None, :], mask=normal, other=0.0)
        value = tl.where(normal, value * scale[:, None] * gain, value)
    if PART > 0:
        if PAIRS:
            other, first = columns ^ 1, columns % 2 == 0
        else:
            first = columns < PART // 2
            other = tl.where(first, columns + PART // 2, columns - PART // 2)
        turns = inside & (columns < PART)[None, :] & (head < turned)
        angle = (rows % angles).to(tl.int64)[:, None] * PART + columns[None, :]
        half = tl.load(x + at + other[None, :], mask=turns, other=0.0).to(tl.float32)
        if NORMED:
            half = half * scale[:, None] * tl.load(gains + other[None, :], mask=turns, other=0.0)
        half = tl.where(first[None, :], -half, half)
        plain = value * tl.load(cos + angle, mask=turns, other=0.0).to(tl.float32)
        value = tl.where(turns, plain + half * tl.load(sin + angle, mask=turns, other=0.0).to(tl.float32), value)
    if SNAP:
        value = snap_bf16(value)
    tl.store(y + at + columns[None, :], value.to(y.dtype.element_ty), mask=inside)


def rotary(
    x: Tensor, cos: Tensor, sin: Tensor, size: int, turned: int, interleaved: bool = False,
    weight: Tensor | None = None, eps: float = 0.0, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """What operators.rotary makes of the same, computed in float32 and rounded once to `dtype` (None: x's). Raises
    ValueError as it does."""
    check(x, cos, sin, size, turned, weight=weight)
    y = torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device)
    if not y.numel():
        return y
    width, part, shape = x.shape[-1], cos.shape[-1], launch.shape(size)
    rows = x.numel() // width
    constants = {"SIZE": size, "PART": part, "PAIRS": interleaved, "NORMED": weight is not None}
    constants |= {"SNAP": launch.snaps(y.dtype), **shape._asdict()}
    gains = y if weight is None else weight.contiguous()  # y: an address that nothing is read from
    sizes = rows, width, max(1, cos.numel() // max(1, part)), turned, eps
    # a product that became part of an fma would not be rounded
    _rotary_kernel[(*shape.grid(rows), width // size)](
        x.contiguous(), cos.contiguous(), sin.contiguous(), gains, y, *sizes, enable_fp_fusion=False, **constants
    )
    return y
