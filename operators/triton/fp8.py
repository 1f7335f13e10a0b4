"""The FP8 linear layer, on rows with a scale for each token and weights with one for each output channel."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from operators.floating import ended
from operators.triton.levels import activate
from operators.triton.matmul import multiply, swizzle
from operators.triton.tiles import LIBRARY, Tile, tile_for

Rows = tuple[Tensor, Tensor, Tensor]


class Weight(NamedTuple):
    """weight float8_e4m3fn [N, K], scale float32 [N], bias float32 [N] or None"""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None


@triton.jit
def _linear_fp8_kernel(
    q, w, sx, sw, bias, out, M, N, BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    K: tl.constexpr, SPLIT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    m, n = swizzle(M, N, BM, BN, GROUP)
    acc = multiply(q, w, M, N, m, n, 0, tl.zeros((BM, BN), tl.float32), K, SPLIT, BM, BN, BK)
    rows, columns = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN)
    there, across = rows < M, columns < N
    y = acc * (tl.load(sx + rows, mask=there, other=0.0)[:, None] * tl.load(sw + columns, mask=across, other=0.0))
    if BIAS:
        y += tl.load(bias + columns, mask=across, other=0.0)[None, :]
    y = activate(y, ACTIVATION)
    at = rows.to(tl.int64)[:, None] * N + columns[None, :]
    tl.store(out + at, y.to(out.dtype.element_ty), mask=there[:, None] & across[None, :])


def linear_fp8(
    rows: Rows, weight: Weight, dtype: torch.dtype, activation: str = "none", tile: Tile | None = None
) -> Tensor:
    """rows [M, K] of FP8 → [M, N] of `dtype`: multiplied, scaled, with bias and activation, one of floating.ACTIVATIONS

    Sums are float32, as exact as the GPU's FP8 units make them (Hopper's keep fewer bits than float32 between terms).
    """
    q, scale, _ = rows
    m, (n, k) = q.shape[0], weight.weight.shape
    tile = tile or tile_for("fp8", m, n, k)
    if tile.kernel == LIBRARY:
        return _library(q, scale, weight, dtype, activation)
    out = torch.empty((m, n), dtype=dtype, device=q.device)
    if m and n:
        bias = weight.scale if weight.bias is None else weight.bias
        tile = tile.whole()
        ends = {"BIAS": weight.bias is not None, "ACTIVATION": activation}
        given = (q.contiguous(), weight.weight, scale, weight.scale, bias, out, m, n)
        _linear_fp8_kernel[tile.grid(m, n)](*given, **ends, **tile.constants(k))
    return out


def _library(q: Tensor, scale: Tensor, weight: Weight, dtype: torch.dtype, activation: str) -> Tensor:
    """torch._scaled_mm, which returns bfloat16 where scales are by row; the bias is added after it, in float32"""
    scales = {"scale_a": scale[:, None], "scale_b": weight.scale[None, :]}
    y = torch._scaled_mm(q, weight.weight.t(), **scales, out_dtype=torch.bfloat16, use_fast_accum=True)
    return ended(y.float(), weight.bias, activation, dtype)
