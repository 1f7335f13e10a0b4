"""Ranges from histograms, against what the values themselves say."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from targets._linear import Activation
from tests.checks import sqnr
from toolkit.calibrate.histogram import Histogram
from toolkit.calibrate.ranges import RANGES, activation_of

SYMMETRIC = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])


def normal(count: int = 200_000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def outliers() -> Tensor:
    x = normal()
    x[:20] *= 30
    return x


SAMPLES = {"normal": normal(), "outliers": outliers(), "gelu": F.gelu(normal() * 2), "shifted": normal() + 3}


def found(x: Tensor, ranges: str, symmetric: bool, percentile: float = 99.999) -> Activation:
    histogram = Histogram()
    histogram.add(x)
    return activation_of(histogram, ranges, percentile, symmetric)


def ends(activation: Activation) -> tuple[float, float]:
    """The least and the largest value that has a level."""
    assert activation.scale is not None
    low = int(activation.symmetric) - activation.zero_point
    return low * activation.scale, (255 - activation.zero_point) * activation.scale


def quality(x: Tensor, activation: Activation) -> float:
    """SQNR in dB of x after quantizing."""
    rows = x.view(-1, 1000)
    q, scale, zero = torch.ops.opswap.quantize_per_token(rows, *activation.levels())
    return sqnr((q.float() - zero[:, None]) * scale[:, None], rows)


@pytest.mark.parametrize("kind", SAMPLES)
@SYMMETRIC
def test_minmax_holds_everything(kind, symmetric):
    x = SAMPLES[kind]
    low, high = ends(found(x, "minmax", symmetric))
    step = (high - low) / 255
    assert low <= min(0.0, float(x.min())) + step and high >= float(x.max()) - step
    assert quality(x, found(x, "minmax", symmetric)) >= 15


@pytest.mark.parametrize("percentile", [99.9, 99.99, 99.999])
@pytest.mark.parametrize("kind", SAMPLES)
@SYMMETRIC
def test_percentile_leaves_out_its_share(kind, symmetric, percentile):
    x, share = SAMPLES[kind], 1 - percentile / 100
    low, high = ends(found(x, "percentile", symmetric, percentile))
    step = (high - low) / 255  # a zero point is a whole level, and a bin is less than one
    sides = [(x.abs() > high + step, x.abs() > high - 2 * step)] if symmetric else []
    sides += [] if symmetric else [(x > high + step, x > high - 2 * step), (x < low - step, x < low + 2 * step)]
    for outside, near in sides:
        assert outside.float().mean() <= share
        assert near.float().mean() >= share or not near.any() or low == 0


@pytest.mark.parametrize("kind", SAMPLES)
@SYMMETRIC
def test_mse_is_the_best_there_is(kind, symmetric):
    x = SAMPLES[kind]
    best = quality(x, found(x, "mse", symmetric))
    others = [quality(x, found(x, ranges, symmetric, p)) for ranges in RANGES for p in (99.9, 99.99, 99.999)]
    assert best >= max(others) - 0.05


def test_mse_cuts_outliers_and_minmax_does_not():
    x = outliers()
    near, far = (quality(normal(), found(x, ranges, True)) for ranges in ("mse", "minmax"))
    assert near > far + 3


@SYMMETRIC
def test_entropy_cuts_outliers_and_keeps_the_bulk(symmetric):
    _, high = ends(found(outliers(), "entropy", symmetric))
    assert 2 < high < 10 and float(outliers().max()) > 30


def test_a_zero_point_helps_where_one_side_is_empty():
    for ranges in ("minmax", "percentile", "mse"):
        lopsided = [quality(SAMPLES["gelu"], found(SAMPLES["gelu"], ranges, symmetric)) for symmetric in (False, True)]
        assert lopsided[0] > lopsided[1] + 1, ranges


@pytest.mark.parametrize("ranges", RANGES)
@SYMMETRIC
def test_zeros_have_a_range(ranges, symmetric):
    assert found(torch.zeros(9), ranges, symmetric) == Activation(symmetric, 1.0)
    tiny = found(torch.full((9,), 1e-44), ranges, symmetric)
    assert tiny == Activation(symmetric, 1.0)
