"""Weights to int8: symmetric, one scale for each output channel; and what every 8-bit form asks of a weight."""

import torch
from torch import Tensor

from operators.reference import safe_scale
from operators.validate import require

# From here on torch._int_mm adds up, 30 times as fast as torch.sum, which widens every byte first; it is exact on
# every CPU here: a pair of products with 1 fits int16.
LONG = 64
# Elements that are rounded at once: they stay in a core's cache, and what is freed after them leaves no holes.
PIECE = 1 << 17


class WeightError(ValueError):
    """A weight that no 8 bits can stand for: one line."""


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight floating [N, K] -> q int8 [N, K] in [-127, 127], scale float32 [N]; weight is close to q * scale.

    A row of zeros gets scale 1. Raises ValueError for another dtype or shape, WeightError for NaN and infinity.
    """
    w, largest = finite_weight("quantize_weight", weight)
    scale = safe_scale(largest, 127)
    q = torch.empty_like(w, dtype=torch.int8)
    rows = max(1, PIECE // max(1, w.shape[1]))
    for piece, to, by in zip(w.split(rows), q.split(rows), scale[:, None].split(rows), strict=True):
        to.copy_((piece / by).round_().clamp_(-127, 127))
    return q, scale


def finite_weight(op: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight floating [N, K] -> float32, and the largest size in each row, float32 [N].

    Raises ValueError for another dtype or shape, WeightError for NaN and infinity.
    """
    ok = weight.is_floating_point() and weight.dim() == 2
    wanted = f"{op}: weight must be floating point with 2 dimensions"
    require(ok, wanted, f"{weight.dtype} of shape {list(weight.shape)}", "pass nn.Linear's weight")
    w = weight.detach().to(torch.float32)
    # a tenth of the time of torch.aminmax(w, dim=1); NaN is the largest and the least of what it is in
    largest = torch.maximum(w.amax(1), -w.amin(1)) if w.numel() else w.new_zeros(w.shape[0])
    if not largest.isfinite().all():
        raise WeightError(f"{op}: weights must be finite; got NaN or infinity; check the checkpoint")
    return w, largest


def weight_sum(q: Tensor) -> Tensor:
    """q int8 [N, K] -> int32 [N], the sum over k, which the zero points of the activations are multiplied with."""
    require(
        q.dtype == torch.int8 and q.dim() == 2,
        "weight_sum: q must be int8 [N, K]",
        q.dtype,
        "quantize_weight",
    )
    if q.device.type != "cpu" or q.shape[0] == 0 or q.shape[1] < LONG:
        return q.sum(1, dtype=torch.int32)
    ones = torch.ones(q.shape[1], 8, dtype=torch.int8)
    return torch._int_mm(q, ones)[:, 0].contiguous()
