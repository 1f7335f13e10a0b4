"""The linear layer with int8 weights and float activations, for few rows: where reading the weights takes the time."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.triton.matmul import swizzle
from operators.triton.tiles import Tile

FEW = 16  # rows: the least that a tile has
# Not of the table, whose products are those of many rows; not measured on a GPU.
NARROW, WIDE = Tile(FEW, 32, 128, stages=4), Tile(64, 64, 32, stages=3)


class Weight(NamedTuple):
    """weight int8 [N, K], scale float32 [N], bias float32 [N] or None"""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None


@triton.jit
def _linear_w8_kernel(
    x, w, sw, bias, out, M, N, BIAS: tl.constexpr, K: tl.constexpr, SPLIT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    m, n = swizzle(M, N, BM, BN, GROUP)
    rows, columns, depth = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN), tl.arange(0, BK)
    there, across = rows < M, columns < N
    left = x + rows.to(tl.int64)[:, None] * K + depth[None, :]
    right = w + columns.to(tl.int64)[None, :] * K + depth[:, None]
    acc = tl.zeros((BM, BN), tl.float32)
    for step in range(0, tl.cdiv(K, BK)):
        reach = step * BK + depth < K
        a = tl.load(left, mask=there[:, None] & reach[None, :], other=0.0).to(tl.float32)
        b = tl.load(right, mask=across[None, :] & reach[:, None], other=0).to(tl.float32)
        # float32 of three products: x is not rounded to the 11 bits of the matrix units, in which bytes are exact
        acc = tl.dot(a, b, acc, input_precision="tf32x3")
        left += BK
        right += BK
    y = acc * tl.load(sw + columns, mask=across, other=0.0)[None, :]
    if BIAS:
        y += tl.load(bias + columns, mask=across, other=0.0)[None, :]
    at = rows.to(tl.int64)[:, None] * N + columns[None, :]
    tl.store(out + at, y.to(out.dtype.element_ty), mask=there[:, None] & across[None, :])


def linear_w8(x: Tensor, weight: Weight) -> Tensor:
    """x [M, K] of any float type → [M, N] of the same: (x · weightᵀ) · scale + bias, in float32, rounded once"""
    (m, k), n = x.shape, weight.weight.shape[0]
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if m and n:
        tile = NARROW if m <= FEW else WIDE
        bias = weight.scale if weight.bias is None else weight.bias
        given = (x.contiguous(), weight.weight, weight.scale, bias, out, m, n)
        _linear_w8_kernel[tile.grid(m, n)](*given, BIAS=weight.bias is not None, **tile.constants(k))
    return out
