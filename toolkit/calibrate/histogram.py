"""How often which values came, in as much memory for a billion of them as for one."""

import math

import torch
from torch import Tensor

BINS = 1 << 14  # 64 a level, where all 255 levels are used
HALF = BINS // 2
LOWEST = -100  # of the exponents: finer widths than 2**-113 tell nothing, and their inverse stays a float32


class Histogram:
    """counts int64 [BINS]: bin i holds the values in [(i - HALF) * width, (i - HALF + 1) * width).

    width = 2**exponent / HALF, the least that holds all values so far. It doubles as they grow, and two bins become
    one: their edges are multiples of powers of two, so nothing is counted in a wrong bin, and the result depends on
    the values alone, not on their order or their division into batches. low, high: the least and the largest value,
    and 0.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.exponent, self.low, self.high = LOWEST, 0.0, 0.0

    @property
    def width(self) -> float:
        return 2.0**self.exponent / HALF

    def add(self, x: Tensor) -> None:
        """x float32, any shape. Raises ValueError where it holds NaN or infinity."""
        if not x.numel():
            return
        low, high = (float(end) for end in torch.aminmax(x))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("values to find a range of must be finite; got NaN or infinity; check the model")
        self.low, self.high = min(self.low, low), max(self.high, high)
        most = max(-low, high)
        self._grow(math.frexp(most)[1] if most else LOWEST)  # 2**that is above both
        bins = (x.flatten().double() * (1 / self.width)).floor_().to(torch.int64)
        self.counts += torch.bincount(bins.add_(HALF), minlength=BINS)

    def _grow(self, exponent: int) -> None:
        shift = exponent - self.exponent
        if shift <= 0:
            return
        into = (torch.arange(BINS) - HALF >> min(shift, 62)) + HALF
        self.counts = torch.zeros_like(self.counts).index_add_(0, into, self.counts)
        self.exponent = exponent

    def centers(self) -> Tensor:
        """→ float64 [BINS], the middle of each bin"""
        return (torch.arange(BINS, dtype=torch.float64) - HALF + 0.5) * self.width

    def state(self) -> dict[str, Tensor]:
        """→ all there is, as tensors"""
        ends = torch.tensor([self.low, self.high, self.exponent], dtype=torch.float64)
        return {"counts": self.counts, "ends": ends}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Histogram":
        made = cls()
        made.counts = state["counts"]
        made.low, made.high = (float(end) for end in state["ends"][:2])
        made.exponent = int(state["ends"][2])
        return made
