"""FP8 in plain PyTorch, what the kernels are tested against: E4M3, a scale for each token and each output channel.

E4M3 is the OCP's here, which PyTorch has as a dtype; e4m3.py has every kind of it, as bytes.

y[m,n] = (sum_k q_x[m,k] · q_w[n,k]) · (s_x[m] · s_w[n]) + bias[n]
"""

import torch
from torch import Tensor

from operators.e4m3 import CHIPS
from operators.reference import safe_scale
from operators.weights import finite_weight

FP8 = torch.float8_e4m3fn
LARGEST = CHIPS["gaudi3"].largest()  # 448, and no infinity above it


def quantize_fp8(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x float32 [..., K] → q float8_e4m3fn [M, K], scale float32 [M], zeros int32 [M]; M = product of leading sizes

    Each row by its own largest value, to nearest, ties to even. A row that holds NaN or infinity gets the scale NaN
    and zeros, so that whatever is computed from it is NaN; the zeros of int32 make these rows as those of int8 are.
    """
    rows = x.reshape(-1, x.shape[-1])
    scale = safe_scale(rows.abs().amax(1), LARGEST)
    level = (rows * scale.reciprocal()[:, None]).nan_to_num(0).clamp(-LARGEST, LARGEST)
    return level.to(FP8), scale, torch.zeros_like(scale, dtype=torch.int32)


def quantize_weight_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight floating [N, K] → q float8_e4m3fn [N, K], scale float32 [N]; weight is close to q · scale

    Raises ValueError for another dtype or shape, WeightError for NaN and infinity.
    """
    wide, largest = finite_weight("quantize_weight_fp8", weight)
    scale = safe_scale(largest, LARGEST)
    return (wide / scale[:, None]).clamp(-LARGEST, LARGEST).to(FP8), scale


def linear_fp8(q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """q, scale: as quantize_fp8 gives them; weight and weight_scale: as quantize_weight_fp8; bias float32 [N] or None
    → float32 [M, N], summed in float64"""
    total = q.to(torch.float64) @ weight.to(torch.float64).t()
    y = (total * (scale[:, None] * weight_scale)).to(torch.float32)
    return y if bias is None else y + bias
