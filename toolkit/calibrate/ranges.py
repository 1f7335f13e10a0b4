"""A histogram → the range that 255 levels are spread over.

minmax: all that was seen. percentile: that share of the values, the same share left out at either end. mse: the least
squared error after rounding and clipping. entropy: the least Kullback-Leibler divergence of what is left after that
from what was (S. Migacz, "8-bit inference with TensorRT", GTC 2017, here with the levels that we really have).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from operators.validate import TINY
from targets._linear import Activation
from toolkit.calibrate.histogram import BINS, HALF, Histogram

Range = tuple[float, float]
Cost = Callable[[float, float], float]

STEPS, OCTAVES = 16, 8  # ends are tried at the whole of what was seen times 2**(-i / STEPS), down to 2**-OCTAVES
ROUNDS = 4  # of one end after the other; more never changed a range
COARSE = 4  # bins that entropy takes as one: with 64 for each level, counts of the rarest would be noise


def activation_of(histogram: Histogram, ranges: str, percentile: float, symmetric: bool) -> Activation:
    """ranges: one of RANGES; percentile: for that way only, e.g. 99.99 → one scale and zero point for all rows"""
    return _levels(*RANGES[ranges](histogram, percentile, symmetric), symmetric)


def _levels(low: float, high: float, symmetric: bool) -> Activation:
    """low <= 0 <= high → the levels that are spread over it; a range of nothing gets scale 1"""
    span = 2 * max(-low, high) / 254 if symmetric else (high - low) / 255
    scale = float(torch.tensor(span, dtype=torch.float32))
    if scale < TINY:
        return Activation(symmetric, 1.0)
    if symmetric:
        return Activation(True, scale)
    return Activation(False, scale, min(255, max(0, round(-low / scale))))


def _minmax(histogram: Histogram, percentile: float, symmetric: bool) -> Range:
    return histogram.low, histogram.high


def _percentile(histogram: Histogram, percentile: float, symmetric: bool) -> Range:
    """Of the sizes where symmetric, else at each end: at most 100 - percentile of the values lie beyond."""
    up, down = histogram.counts[HALF:], histogram.counts[:HALF].flip(0)  # from zero outwards
    beyond = (1 - percentile / 100) * float(histogram.counts.sum())
    if symmetric:
        end = _end(up + down, beyond, histogram.width)
        return max(-end, histogram.low), min(end, histogram.high)
    low, high = -_end(down, beyond, histogram.width), _end(up, beyond, histogram.width)
    return max(low, histogram.low), min(high, histogram.high)


def _end(counts: Tensor, beyond: float, width: float) -> float:
    """counts: from zero outwards → the nearest edge of a bin with at most `beyond` values outside"""
    outside = counts.flip(0).cumsum(0).flip(0)  # in this bin and further out
    return int((outside > beyond).sum()) * width


def _mse(histogram: Histogram, percentile: float, symmetric: bool) -> Range:
    seen = histogram.counts > 0
    counts, x = histogram.counts[seen].double(), histogram.centers()[seen]

    def cost(low: float, high: float) -> float:
        return float(counts @ (_rounded(x, _levels(low, high, symmetric))[1] - x).square())

    return _search(histogram, symmetric, cost)


def _entropy(histogram: Histogram, percentile: float, symmetric: bool) -> Range:
    counts = histogram.counts.view(BINS // COARSE, COARSE).sum(1).double()
    x = histogram.centers().view(-1, COARSE).mean(1)
    seen = counts > 0
    counts, x = counts[seen], x[seen]

    def cost(low: float, high: float) -> float:
        inside = (x >= low) & (x <= high)
        if not inside.any():
            return torch.inf
        within, level = counts[inside], _rounded(x[inside], _levels(low, high, symmetric))[0]
        p = within.clone()
        p[0] += counts[x < low].sum()
        p[-1] += counts[x > high].sum()
        q = _spread(within, level)
        p, q = p / p.sum(), q / q.sum()
        return float((p * (p / q).log()).sum())

    return _search(histogram, symmetric, cost)


def _spread(counts: Tensor, level: Tensor) -> Tensor:
    """→ the counts after quantizing: those of each level, shared evenly by the bins that have any and round to it"""
    sums = torch.zeros(256, dtype=torch.float64).index_add_(0, level, counts)
    bins = torch.zeros(256, dtype=torch.float64).index_add_(0, level, torch.ones_like(counts))
    return (sums / bins)[level]


def _rounded(x: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """→ the levels of x, int64, and what they stand for"""
    scale = activation.scale or 1.0
    level = ((x / scale).round() + activation.zero_point).clamp(int(activation.symmetric), 255)
    return level.long(), (level - activation.zero_point) * scale


def _search(histogram: Histogram, symmetric: bool, cost: Cost) -> Range:
    """→ the ends of least cost: of a symmetric range at once, else one end after the other until none moves"""
    shares = [2 ** (-i / STEPS) for i in range(STEPS * OCTAVES + 1)]
    low, high = histogram.low, histogram.high
    if symmetric:
        size = max(-low, high)
        best = min((share * size for share in shares), key=lambda end: cost(-end, end))
        return -best, best
    for _ in range(ROUNDS):
        before = low, high
        high = min((share * histogram.high for share in shares), key=lambda end: cost(low, end))
        low = min((share * histogram.low for share in shares), key=lambda end: cost(end, high))
        if before == (low, high):
            break
    return low, high


RANGES: dict[str, Callable[[Histogram, float, bool], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
