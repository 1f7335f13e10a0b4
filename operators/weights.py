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
    w = finite_weight("quantize_weight", weight)
    if not w.numel():
        return w.to(torch.int8), w.new_ones(w.shape[0])
    low, high = torch.aminmax(w, dim=1)
    scale = safe_scale(torch.maximum(-low, high), 127)
    q = torch.empty_like(w, dtype=torch.int8)
    rows = max(1, PIECE // w.shape[1])
    for piece, to, by in zip(w.split(rows), q.split(rows), scale[:, None].split(rows), strict=True):
        to.copy_((piece / by).round_().clamp_(-127, 127))
    return q, scale


def finite_weight(op: str, weight: Tensor) -> Tensor:
    """weight floating [N, K] -> float32. Raises ValueError for another dtype or shape, WeightError for NaN or inf."""
    ok = weight.is_floating_point() and weight.dim() == 2
    wanted = f"{op}: weight must be floating point with 2 dimensions"
    require(ok, wanted, f"{weight.dtype} of shape {list(weight.shape)}", "pass nn.Linear's weight")
    w = weight.detach().to(torch.float32)
    if w.numel() and not all(end.isfinite() for end in torch.aminmax(w)):  # NaN is both ends of what it is in
        raise WeightError(f"{op}: weights must be finite; got NaN or infinity; check the checkpoint")
    return w


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
