"""How tests compare tensors: bit for bit where the arithmetic is exact, in dB of SQNR where it is not; and how an
operator says no."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

_BITS = {
    torch.float32: torch.int32,
    torch.float64: torch.int64,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def assert_equal_bits(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Same shape, same dtype, same bits (0.0 is not -0.0; any NaN equals any NaN)."""
    have, want = (actual.dtype, actual.shape), (expected.dtype, expected.shape)
    assert have == want, f"{what}: {have} where {want} was expected"
    a, e = actual, expected
    if e.is_floating_point():
        nan = e.isnan()
        assert torch.equal(a.isnan(), nan), f"{what}: NaN in other places"
        a, e = a[~nan].view(_BITS[e.dtype]), e[~nan].view(_BITS[e.dtype])
    wrong = (a != e).nonzero()
    assert not len(wrong), f"{what}: {len(wrong)} of {e.numel()} differ, the first at {wrong[0].tolist()}"


def sqnr(actual: Tensor, expected: Tensor) -> float:
    """Signal to quantization noise in dB: 20 log10(|expected| / |actual - expected|); infinite if equal."""
    a, e = actual.detach().double(), expected.detach().double()
    return float(20 * torch.log10(e.norm() / (a - e).norm()))


def assert_sqnr(actual: Tensor, expected: Tensor, at_least_db: float) -> None:
    """Same shape, and an SQNR of at least `at_least_db`."""
    assert actual.shape == expected.shape, f"{actual.shape} where {expected.shape} was expected"
    db = sqnr(actual, expected)
    assert torch.equal(actual, expected) or db >= at_least_db, f"SQNR {db:.1f} dB, wanted {at_least_db} dB or more"


def assert_refuses(operator: Callable[..., Any], name: str, *args: Any) -> None:
    """The call raises one line: the operator's name, what was wanted, what came, what to do."""
    with pytest.raises((ValueError, RuntimeError), match=f"^{name}: .*; got .*; ") as error:
        operator(*args)
    assert "\n" not in str(error.value)
