"""By what a tensor is divided before it becomes FP8, and multiplied after: Gaudi's rules for scales.

The rules and their names are those of Neural Compressor's FP8Config (scale_method): maxabs over the largest number
that FP8 holds, then rounded up, to a power of two, or to what the chip does with its exponent bias alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.e4m3 import NORMAL, Chip
from operators.validate import require

ROUNDINGS = ("none", "pow2", "hw")
LEAST, MOST = -100, 100  # exponents of a power of two that has an inverse in float32, with room


@dataclass(frozen=True)
class Rule:
    """by_row: one scale for each row of the last dimension, else one for the tensor; rounding: "pow2", "hw" (the
    powers of two that an exponent bias stands for), "none"; backoff: the share of the range that maxabs fills."""

    by_row: bool
    rounding: str = "pow2"
    backoff: float = 1.0

    def __post_init__(self) -> None:
        require(self.rounding in ROUNDINGS, f"rounding must be one of {ROUNDINGS}", self.rounding, "choose one")
        require(0 < self.backoff <= 1, "backoff must lie in (0, 1]", self.backoff, "1 uses the whole range")


# What runs here: a token's own scale, and one for each output channel.
ACTIVATION, WEIGHT = Rule(by_row=True), Rule(by_row=True)


def scale_of(x: Tensor, chip: Chip, rule: Rule) -> Tensor:
    """x float32 [..., K] → float32 [..., 1] by row, else []: maxabs / (largest · backoff), rounded up by the rule

    1 where all are zero, NaN where one is not finite.
    """
    maxabs = x.abs().amax(-1, keepdim=True) if rule.by_row else x.abs().amax()
    scale = maxabs / (chip.largest() * rule.backoff)
    if rule.rounding == "pow2":
        scale = torch.ldexp(torch.ones_like(scale), _exponent(scale).clamp(LEAST, MOST))
    elif rule.rounding == "hw":
        scale = aligned(scale, chip)
    scale = torch.where(maxabs == 0, 1.0, scale)
    return torch.where(maxabs.isfinite(), scale, torch.nan)


def aligned(scale: Tensor, chip: Chip) -> Tensor:
    """scale → the least 2^(7 - bias) of the chip's biases that is not below it, the largest where none is: 2⁻⁸, 2⁻⁴,
    1 and 2⁴ on Gaudi2, any of 2⁻⁵⁵ to 2⁷ on Gaudi3"""
    exponents = torch.tensor(sorted(NORMAL - bias for bias in chip.biases), dtype=torch.int32, device=scale.device)
    places = torch.searchsorted(exponents, _exponent(scale).contiguous()).clamp(max=len(exponents) - 1)
    return torch.ldexp(torch.ones_like(scale), exponents[places])


def _exponent(scale: Tensor) -> Tensor:
    """→ ceil(log2(scale)), exactly, int32"""
    mantissa, exponent = torch.frexp(scale)
    return exponent - (mantissa == 0.5).to(torch.int32)
