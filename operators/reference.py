"""The one definition of the integers, in plain PyTorch: every kernel and every target equals it, bit for bit.

    y[m,n] = acc[m,n] * (s_x[m] * s_w[n]) + bias[n],   acc[m,n] = sum_k (q_x[m,k] - z_x[m]) * q_w[n,k]

All float arithmetic is float32 with one rounding for each operation written here; no fused multiply-add.
"""

import torch
from torch import Tensor

from operators import validate
from operators.validate import GROUP, PANEL, TINY, ceil_div


def safe_scale(span: Tensor, levels: float) -> Tensor:
    """span / levels; 1 where that is below the smallest normal float (its inverse could overflow), NaN where it
    is not finite. float32, any shape."""
    scale = span / levels
    scale = torch.where(scale < TINY, torch.ones_like(scale), scale)
    return torch.where(torch.isfinite(scale), scale, torch.full_like(scale, torch.nan))


def rotated(x: Tensor, rotation: int) -> Tensor:
    """x float [..., K] → x · H, H the matrix of Walsh and Hadamard (entries ±1, H·H = rotation · identity) for each
    block of `rotation` values, a power of 2; the K mod rotation values after the last whole block stay. 0: x.

    Sums and differences of pairs 1, 2, 4, ... apart, each rounded once: their order makes the bits.
    """
    whole = x.shape[-1] // rotation * rotation if rotation else 0
    if not whole:
        return x
    y, apart = x[..., :whole], 1
    while apart < rotation:
        a, b = y.unflatten(-1, (-1, 2, apart)).unbind(-2)
        y, apart = torch.stack((a + b, a - b), -2).flatten(-3), 2 * apart
    return torch.cat((y, x[..., whole:]), -1)


def quantize_per_token(
    x: Tensor, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """x float32 [..., K] -> q uint8 [M, K], scale float32 [M], zero_point int32 [M]; M = product of leading sizes.

    rotation: what becomes bytes is rotated(x, rotation).

    fixed_scale 0: each row by its own range. Above 0: every row has that scale and fixed_zero,
    q = clamp(round(x * (1 / scale)) + zero_point, low, 255), low 1 if symmetric, else 0; ties go to even.
    A row that holds NaN or infinity (or whose own range overflows float32) gets scale NaN and q = zero_point, so that
    whatever is computed from it is NaN. Raises ValueError for another dtype, 0 dimensions, K = 0 or K > 66311, and
    for a scale or zero point that check_levels refuses.
    """
    validate.check_activation("quantize_per_token", x)
    validate.check_levels("quantize_per_token", symmetric, fixed_scale, fixed_zero, rotation)
    rows = x.reshape(-1, x.shape[-1]) if x.numel() else x.new_empty(x.shape[:-1].numel(), x.shape[-1])
    rows = rotated(rows, rotation)
    if fixed_scale:
        finite = rows.isfinite().all(1)
        scale = torch.where(finite, fixed_scale, torch.nan).to(torch.float32)
        zero = torch.full_like(scale, fixed_zero)
    elif symmetric:
        scale = safe_scale(rows.abs().amax(1), 127)
        zero = torch.full_like(scale, 128)
    else:
        lo, hi = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        scale = safe_scale(hi - lo, 255)
        zero = (-lo * scale.reciprocal()).round().nan_to_num(0).clamp(0, 255)
    level = (rows * scale.reciprocal()[:, None]).round().nan_to_num(0) + zero[:, None]
    return level.clamp(int(symmetric), 255).to(torch.uint8), scale, zero.to(torch.int32)


def pack_weight(weight: Tensor) -> Tensor:
    """weight int8 [N, K] -> int8 [ceil(N/64), ceil(K/4), 64, 4], zero padded.

    Raises ValueError for another dtype or shape, K = 0, K > 66311, or K > 65793 and a weight of -128.
    """
    validate.check_weight("pack_weight", weight)
    low = int(weight.min()) if weight.numel() else 0
    fits = low > -128 or weight.shape[1] <= validate.MAX_K_128
    wanted = f"pack_weight: weights must lie in -127..127 where K > {validate.MAX_K_128}"
    validate.require(fits, wanted, low, "quantize symmetrically")
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


def scaled(acc: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """acc int32 [M, N], scale float32 [M], weight_scale and bias float32 [N] -> y float32 [M, N], as above."""
    y = acc.to(torch.float32) * (scale[:, None] * weight_scale)
    return y if bias is None else y + bias


def linear_int8(
    x: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    symmetric: bool,
    fixed_scale: float = 0.0,
    fixed_zero: int = 128,
    rotation: int = 0,
) -> Tensor:
    """x float32 [..., K] -> float32 [..., N]: quantize_per_token(x), multiply, scale, add bias (if any).

    packed int8 [ceil(N/64), ceil(K/4), 64, 4]; weight_sum int32 [N]; weight_scale and bias float32 [N].
    Raises ValueError on a bad argument.
    """
    validate.check_linear("linear_int8", x, packed, weight_sum, weight_scale, bias)
    validate.check_levels("linear_int8", symmetric, fixed_scale, fixed_zero, rotation)
    q, scale, zero_point = quantize_per_token(x, symmetric, fixed_scale, fixed_zero, rotation)
    acc = int8_matmul(q, zero_point, packed, weight_sum)
    return scaled(acc, scale, weight_scale, bias).view(*x.shape[:-1], weight_sum.shape[0])
