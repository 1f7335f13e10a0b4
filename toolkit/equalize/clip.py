"""The scale of each output channel's weights, chosen by the error of their rounding."""

import torch
from torch import Tensor

from operators import quantize_weight

SHRINKS = tuple(1 - step / 200 for step in range(61))  # 1 to 0.7 of the scale that the largest weight asks for


def clip(weight: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """weight floating [N, K] → q int8 [N, K] in [-127, 127], scale float32 [N], as quantize_weight, with scales of
    less than max|w| / 127 where that makes the squared error smaller: few weights are cut off, all others finer.

    importance: float32 [K], the mean square of what each column is multiplied with; all alike without it. The error
    is never larger than quantize_weight's. Raises ValueError as that does.
    """
    q, scale = quantize_weight(weight)
    w = weight.detach().float()
    least = torch.full_like(scale, torch.inf)
    best = q.float(), scale
    for shrink in SHRINKS:
        step = scale * shrink
        level = (w / step[:, None]).round().clamp(-127, 127)
        square = (w - level * step[:, None]).square()
        error = square.sum(1) if importance is None else square @ importance
        better = error < least
        least = torch.where(better, error, least)
        best = torch.where(better[:, None], level, best[0]), torch.where(better, step, best[1])
    return best[0].to(torch.int8), best[1]
