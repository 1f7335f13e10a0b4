"""Shift, round, saturate: how a compute tile makes a narrow number of a 32-bit sum, on its way out of the registers.

The modes are those of AMD's AI Engine-ML; their names as in AIE API, aie::rounding_mode and aie::saturation_mode.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from operators.validate import require

LONGEST = 31  # bits that a sum can be shifted by


def _floor(sums: Tensor, shift: int) -> Tensor:
    return sums >> shift


def _by_size(rounded: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """→ the mode that treats −x as −(x): `rounded` of the size, with the sign put back"""
    return lambda sums, shift: sums.sign() * rounded(sums.abs(), shift)


def _up(sums: Tensor, shift: int) -> Tensor:
    """Ties towards +∞"""
    return (sums + _half(shift)) >> shift


def _down(sums: Tensor, shift: int) -> Tensor:
    """Ties towards −∞"""
    return -_up(-sums, shift)


def _half(shift: int) -> int:
    return (1 << shift) >> 1


def _to(parity: int) -> Callable[[Tensor, int], Tensor]:
    """→ ties towards the neighbour that is even (0) or odd (1)"""

    def rounded(sums: Tensor, shift: int) -> Tensor:
        up, down = _up(sums, shift), _down(sums, shift)
        return torch.where(up % 2 == parity, up, down)

    return rounded


ROUNDING: dict[str, Callable[[Tensor, int], Tensor]] = {
    "floor": _floor,
    "ceil": lambda sums, shift: -_floor(-sums, shift),
    "symmetric_floor": _by_size(_floor),
    "symmetric_ceil": _by_size(lambda sums, shift: -_floor(-sums, shift)),
    "positive_inf": _up,
    "negative_inf": _down,
    "symmetric_inf": _by_size(_up),
    "symmetric_zero": _by_size(_down),
    "conv_even": _to(0),
    "conv_odd": _to(1),
}
SATURATION = ("none", "saturate", "symmetric")
OUTPUTS = {"int8": torch.int8, "int16": torch.int16, "int32": torch.int32}


def srs(sums: Tensor, shift: int, out: str, rounding: str = "conv_even", saturation: str = "saturate") -> Tensor:
    """sums int32, any shape → sums / 2^shift as `out`, a name of OUTPUTS

    floor and ceil round towards −∞ and +∞, symmetric_floor and symmetric_ceil towards 0 and away from it; the others
    to the nearest, and ties: up, down, away from 0, towards 0, to even, to odd. saturation: none keeps the low bits,
    saturate stops at −2^(b−1) and 2^(b−1) − 1, symmetric at −(2^(b−1) − 1) and that. Raises ValueError.
    """
    require(sums.dtype == torch.int32, "srs: sums must be int32", sums.dtype, "convert them")
    require(0 <= shift <= LONGEST, f"srs: shift must lie in 0..{LONGEST}", shift, "fix it")
    require(rounding in ROUNDING, f"srs: rounding must be one of {', '.join(ROUNDING)}", rounding, "fix it")
    require(saturation in SATURATION, f"srs: saturation must be one of {', '.join(SATURATION)}", saturation, "fix it")
    require(out in OUTPUTS, f"srs: out must be one of {', '.join(OUTPUTS)}", out, "fix it")
    kind = OUTPUTS[out]
    # ties differ from other numbers only where something is cut off: with shift 0 the half is 0 and all modes agree
    rounded = ROUNDING[rounding](sums.to(torch.int64), shift)
    if saturation != "none":
        most = torch.iinfo(kind).max
        rounded = rounded.clamp(-most - (saturation == "saturate"), most)
    return rounded.to(kind)
