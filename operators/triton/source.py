"""Where the row kernels' floats come from: floats as they are, or the integer sums of a linear layer."""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Parts(NamedTuple):
    """A linear layer before scaling: its sums over K in `sums` int32 [S, M, N], of which the total over S counts.

    scale float32 [M] and zero_point int32 [M] of the rows that were multiplied; weight_scale float32 [N], weight_sum
    int32 [N], bias float32 [N] or None. shifted: whether any zero point is not 0.
    """

    sums: Tensor
    scale: Tensor
    zero_point: Tensor
    weight_scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None
    shifted: bool


@triton.jit
def scaled(acc, sx, zx, sw, wsum, bias, rows, columns, M, N, SHIFTED: tl.constexpr, BIAS: tl.constexpr):
    """acc int32 [R, C] of these rows and columns → float32: the zero point put right, scaled, the bias added"""
    there, across = rows < M, columns < N
    if SHIFTED:
        zero = tl.load(zx + rows, mask=there, other=0)
        acc -= zero[:, None] * tl.load(wsum + columns, mask=across, other=0)[None, :]
    scale = tl.load(sx + rows, mask=there, other=0.0)[:, None] * tl.load(sw + columns, mask=across, other=0.0)[None, :]
    y = acc.to(tl.float32) * scale
    if BIAS:
        y += tl.load(bias + columns, mask=across, other=0.0)[None, :]
    return y


@triton.jit
def load_floats(
    x, sx, zx, sw, wsum, bias, rows, columns, inside, M, N,
    SPLIT: tl.constexpr, SHIFTED: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """→ float32 [R, C]: x [M, N] itself where SPLIT is 0, else the total of x int32 [SPLIT, M, N], scaled"""
    at = x + rows.to(tl.int64)[:, None] * N + columns[None, :]
    value = tl.load(at, mask=inside, other=0)
    if SPLIT == 0:
        y = value.to(tl.float32)
    else:
        for part in tl.static_range(1, SPLIT):
            at = x + (rows + part * M).to(tl.int64)[:, None] * N + columns[None, :]
            value += tl.load(at, mask=inside, other=0)
        y = scaled(value, sx, zx, sw, wsum, bias, rows, columns, M, N, SHIFTED, BIAS)
    return y


def arguments(x: Tensor | Parts) -> tuple[Tensor, list[Tensor], dict[str, object], tuple[int, int]]:
    """→ x, what load_floats takes after it, its constants, and M and N; what is not there is x, and never read"""
    if isinstance(x, Tensor):
        return x, [x] * 5, {"SPLIT": 0, "SHIFTED": False, "BIAS": False}, (x.shape[0], x.shape[1])
    split, m, n = x.sums.shape
    bias = x.weight_scale if x.bias is None else x.bias
    given = [x.scale, x.zero_point, x.weight_scale, x.weight_sum, bias]
    return x.sums, given, {"SPLIT": split, "SHIFTED": x.shifted, "BIAS": x.bias is not None}, (m, n)
