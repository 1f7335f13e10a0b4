"""The mean of the weights over the last part of a run: flatter, and better on questions never seen.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (arXiv 1803.05407).
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

EVERY = 50  # steps between two states that are taken in


class WeightMean:
    """Running mean of a model's parameters in float32: `mean` by name, and `count` of states in it."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}
        self.count = 0

    @torch.no_grad()
    def add(self, model: nn.Module) -> None:
        """mean ← mean + (parameter − mean) / count"""
        self.count += 1
        for name, parameter in model.named_parameters():
            if self.count == 1:
                self.mean[name] = parameter.detach().float().clone()
            else:
                self.mean[name].lerp_(parameter.float(), 1 / self.count)

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """parameter ← mean; a mean of nothing changes nothing."""
        for name, parameter in model.named_parameters():
            if self.count:
                parameter.copy_(self.mean[name])


def takes(step: int, total: int, share: float) -> bool:
    """Whether the state after `step` of `total` steps is in the mean over the last `share` of them."""
    exact = Fraction(repr(share))  # the share as it is written: 0.9 of 10 steps are 9, and 1 - 0.9 is less than 0.1
    left = total - step
    return left * exact.denominator < exact.numerator * total and left % EVERY == 0
