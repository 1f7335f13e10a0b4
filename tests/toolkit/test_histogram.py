"""Histograms of values that come in batches: the same however they are divided, in bins with exact edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.calibrate.histogram import BINS, HALF, LOWEST, Histogram


def histogram_of(*batches: torch.Tensor) -> Histogram:
    made = Histogram()
    for batch in batches:
        made.add(batch)
    return made


def same(one: Histogram, other: Histogram) -> bool:
    ends = (one.exponent, one.low, one.high) == (other.exponent, other.low, other.high)
    return ends and torch.equal(one.counts, other.counts)


@settings(max_examples=50, deadline=None)
@given(
    exponents=st.lists(st.integers(-120, 100), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    zeros=st.booleans(),
)
def test_batches_and_their_order_change_nothing(exponents, seed, zeros):
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(40, generator=generator) * 2.0**exponent for exponent in exponents]
    batches += [torch.zeros(7)] * zeros
    whole = histogram_of(torch.cat(batches))
    assert same(whole, histogram_of(*batches)) and same(whole, histogram_of(*reversed(batches)))


@pytest.mark.parametrize("scale", [1.0, 3e-20, 7e30])
def test_every_value_is_in_its_bin(scale):
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * scale
    x[0], x[1], x[2] = 4 * scale, -4 * scale, 0
    made = histogram_of(x.view(50, 100))
    edges = (np.arange(BINS + 1) - HALF) * made.width
    assert np.array_equal(made.counts.numpy(), np.histogram(x.double().numpy(), edges)[0])
    assert made.counts.sum() == 5000 and (made.low, made.high) == (float(x.min()), float(x.max()))
    assert max(-made.low, made.high) < HALF * made.width <= 2 * max(-made.low, made.high)


def test_a_power_of_two_is_not_outside():
    made = histogram_of(torch.tensor([1.0, -1.0]))
    assert made.exponent == 1 and made.counts.sum() == 2


def test_zeros_and_nothing_take_no_room():
    made = histogram_of(torch.zeros(3), torch.zeros(0))
    assert made.exponent == LOWEST and made.counts[HALF] == 3


def test_state_and_back():
    made = histogram_of(torch.randn(100), torch.randn(100) * 30)
    twin = Histogram.from_state({name: tensor.clone() for name, tensor in made.state().items()})
    assert same(made, twin)
    made.add(torch.tensor([1e4]))
    twin.add(torch.tensor([1e4]))
    assert same(made, twin)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="must be finite; got NaN or infinity"):
        histogram_of(torch.tensor([1.0, bad]))
