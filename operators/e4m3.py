"""FP8 E4M3 as Gaudi's bit patterns: a sign, four bits of exponent, three of mantissa, in a byte.

Gaudi2 keeps the highest exponent for infinities and NaN, as IEEE 754 does, so its largest number is 240 at the usual
exponent bias of 7; Gaudi3 keeps only the last pattern of each sign, for NaN (the OCP's E4M3), and reaches 448. A
tensor's exponent bias moves all its numbers by a power of two, at no cost. Source of ranges and biases: Intel Gaudi's
documentation of FP8, and the FP8 part of Neural Compressor (EXP_BIAS_SETS).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from operators.validate import require

MANTISSA, NORMAL = 3, 7  # bits of the mantissa; the exponent bias that E4M3 has everywhere else
NAN = 0x7F
DROPPED = 20  # bits of a float32's mantissa that E4M3 has no room for


@dataclass(frozen=True)
class Chip:
    """name; infinities: whether the highest exponent is kept for infinities and NaN; biases: those that it has."""

    name: str
    infinities: bool
    biases: tuple[int, ...]

    def largest(self, bias: int = NORMAL) -> float:
        """→ the largest finite number: 240 or 448 at the normal bias"""
        significand, exponent = (1.875, 14) if self.infinities else (1.75, 15)
        return significand * 2.0 ** (exponent - bias)


CHIPS = {
    "gaudi2": Chip("gaudi2", True, (3, 7, 11, 15)),
    "gaudi3": Chip("gaudi3", False, tuple(range(63))),
}


def chip_of(op: str, name: str, bias: int) -> Chip:
    """Raises ValueError for an unknown chip, or a bias that it does not have."""
    require(name in CHIPS, f"{op}: chip must be one of {', '.join(CHIPS)}", repr(name), "name one of them")
    biases = CHIPS[name].biases
    shown = str(list(biases)) if len(biases) < 5 else f"{biases[0]}..{biases[-1]}"
    require(bias in biases, f"{op}: {name}'s exponent bias must be one of {shown}", bias, "choose one of them")
    return CHIPS[name]


def encode(x: Tensor, chip: Chip, bias: int = NORMAL) -> Tensor:
    """x float32 → uint8 of its shape: the nearest number, ties to the even mantissa; beyond the largest number,
    infinities too, that number (saturation); NaN stays NaN, and the sign of zero stays"""
    size = x.abs().clamp(max=chip.largest(bias))
    bits = size.view(torch.int32)
    # the upper 12 bits of a float32 are sign, exponent and three of mantissa; half of the rest is added, ties to even
    normal = ((bits + (2 ** (DROPPED - 1) - 1) + ((bits >> DROPPED) & 1)) >> DROPPED) - (127 - bias) * 2**MANTISSA
    below = (size * 2.0 ** (bias - 1 + MANTISSA)).round().nan_to_num(0).clamp(max=8).to(torch.int32)
    code = torch.where(size < 2.0 ** (1 - bias), below, normal)
    code = torch.where(x.isnan(), NAN, code)
    return (code + 128 * torch.signbit(x).to(torch.int32)).to(torch.uint8)


def decode(codes: Tensor, chip: Chip, bias: int = NORMAL, dtype: torch.dtype = torch.float32) -> Tensor:
    """codes uint8 → the numbers that they stand for, of their shape"""
    table = _table(chip, bias, dtype, codes.device)
    return table.index_select(0, codes.flatten().to(torch.int32)).view(codes.shape)


@lru_cache(maxsize=64)
def _table(chip: Chip, bias: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """→ [256]: what every byte stands for"""
    code = torch.arange(256, device=device)
    sign, exponent, mantissa = code >> 7, (code >> MANTISSA) & 15, code & 7
    normal = exponent > 0
    significand = (mantissa + 8 * normal).to(torch.float64)
    value = torch.ldexp(significand, exponent.clamp(min=1) - bias - MANTISSA)
    if chip.infinities:
        top = exponent == 15
        value = torch.where(top, torch.where(mantissa == 0, torch.inf, torch.nan).to(torch.float64), value)
    value = torch.where((code & NAN) == NAN, torch.nan, value)
    return torch.where(sign == 1, -value, value).to(dtype)
