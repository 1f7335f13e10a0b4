"""The one definition of the integers, in plain PyTorch: every kernel and every target equals it, bit for bit.

    y[m,n] = acc[m,n] * (s_x[m] * s_w[n]) + bias[n],   acc[m,n] = sum_k (q_x[m,k] - z_x[m]) * q_w[n,k]

All float arithmetic is float32 with one rounding for each operation written here; no fused multiply-add.
"""

import torch
from torch import Tensor

from operators import validate
from operators.validate import GROUP, PANEL, ceil_div

TINY = torch.finfo(torch.float32).tiny


def safe_scale(span: Tensor, levels: int) -> Tensor:
    """span / levels; 1 where that is below the smallest normal float (its inverse could overflow), NaN where it
    is not finite. float32, any shape."""
    scale = span / levels
    scale = torch.where(scale < TINY, torch.ones_like(scale), scale)
    return torch.where(torch.isfinite(scale), scale, torch.full_like(scale, torch.nan))


def quantize_per_token(x: Tensor, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """x float32 [..., K] -> q uint8 [M, K], scale float32 [M], zero_point int32 [M]; M = product of leading sizes.

    A row that holds NaN or infinity (or whose range overflows float32) gets scale NaN and q = zero_point, so that
    whatever is computed from it is NaN. Raises ValueError for another dtype, 0 dimensions, K = 0 or K > 66311.
    """
    validate.check_activation("quantize_per_token", x)
    rows = x.reshape(-1, x.shape[-1]) if x.numel() else x.new_empty(x.shape[:-1].numel(), x.shape[-1])
    if symmetric:
        scale = safe_scale(rows.abs().amax(1), 127)
        low, high = 1, 255
        zero = torch.full_like(scale, 128)
    else:
        lo, hi = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        scale = safe_scale(hi - lo, 255)
        low, high = 0, 255
        zero = (-lo * scale.reciprocal()).round().nan_to_num(0).clamp(0, 255)
    level = (rows * scale.reciprocal()[:, None]).round().nan_to_num(0) + zero[:, None]
    return level.clamp(low, high).to(torch.uint8), scale, zero.to(torch.int32)


def pack_weight(weight: Tensor) -> Tensor:
    """weight int8 [N, K] in [-127, 127] -> int8 [ceil(N/64), ceil(K/4), 64, 4], zero padded.

    Raises ValueError for another dtype or shape, K = 0, K > 66311, or a weight of -128.
    """
    validate.check_weight("pack_weight", weight)
    low = int(weight.min()) if weight.numel() else 0
    validate.require(low > -128, "pack_weight: weights must lie in -127..127", low, "quantize symmetrically")
    n, k = weight.shape
    panels, groups = ceil_div(n, PANEL), ceil_div(k, GROUP)
    padded = weight.new_zeros(panels * PANEL, groups * GROUP)
    padded[:n, :k] = weight
    return padded.view(panels, PANEL, groups, GROUP).transpose(1, 2).contiguous()


def unpack_weight(packed: Tensor, n: int, k: int) -> Tensor:
    """packed int8 [ceil(n/64), ceil(k/4), 64, 4] -> weight int8 [n, k], the inverse of pack_weight."""
    panels, groups = packed.shape[:2]
    return packed.transpose(1, 2).reshape(panels * PANEL, groups * GROUP)[:n, :k]


def int8_matmul(q: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor) -> Tensor:
    """uint8 [M, K], int32 [M], packed, int32 [N] -> int32 [M, N], exact. Raises ValueError on a bad argument."""
    validate.check_matmul("int8_matmul", q, zero_point, packed, weight_sum)
    weight = unpack_weight(packed, weight_sum.shape[0], q.shape[1])
    # float64 holds every partial sum (< 2**31) exactly, whatever the order, and uses the fast matmul
    centred = q.to(torch.float64) - zero_point[:, None]
    return (centred @ weight.to(torch.float64).t()).to(torch.int32)


def linear_int8(
    x: Tensor, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor, bias: Tensor | None, symmetric: bool
) -> Tensor:
    """x float32 [..., K] -> float32 [..., N]: quantize each row, multiply, scale, add bias (if any).

    packed int8 [ceil(N/64), ceil(K/4), 64, 4]; weight_sum int32 [N]; weight_scale and bias float32 [N].
    Raises ValueError on a bad argument.
    """
    validate.check_linear("linear_int8", x, packed, weight_sum, weight_scale, bias)
    q, scale, zero_point = quantize_per_token(x, symmetric)
    acc = int8_matmul(q, zero_point, packed, weight_sum)
    y = acc.to(torch.float32) * (scale[:, None] * weight_scale)
    if bias is not None:
        y = y + bias
    return y.view(*x.shape[:-1], weight_sum.shape[0])
