"""Shift, round, saturate: every mode against exact fractions."""

from fractions import Fraction
from math import ceil, floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.aie.srs import LONGEST, OUTPUTS, ROUNDING, SATURATION, srs

BITS = {"int8": 8, "int16": 16, "int32": 32}
EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 127, 128, -128, -129, 32767, -32768, 2**30, -(2**30)]


def nearest(x: Fraction, tie: int) -> int:
    """The nearest whole number; `tie`: the one to take where two are as near"""
    low = floor(x)
    if x - low == Fraction(1, 2):
        return tie
    return low if x - low < Fraction(1, 2) else low + 1


ORACLE = {
    "floor": floor,
    "ceil": ceil,
    "symmetric_floor": int,  # Python cuts off towards 0
    "symmetric_ceil": lambda x: ceil(x) if x > 0 else floor(x),
    "positive_inf": lambda x: nearest(x, ceil(x)),
    "negative_inf": lambda x: nearest(x, floor(x)),
    "symmetric_inf": lambda x: nearest(x, ceil(x) if x > 0 else floor(x)),
    "symmetric_zero": lambda x: nearest(x, floor(x) if x > 0 else ceil(x)),
    "conv_even": round,  # Python's ties go to even
    "conv_odd": lambda x: nearest(x, floor(x) if floor(x) % 2 else ceil(x)),
}


def expected(value: int, shift: int, out: str, rounding: str, saturation: str) -> int:
    rounded, bits = ORACLE[rounding](Fraction(value, 2**shift)), BITS[out]
    if saturation == "none":
        return (rounded + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    most = 2 ** (bits - 1) - 1
    return max(-most - (saturation == "saturate"), min(most, rounded))


def test_the_oracle_has_every_mode():
    assert ORACLE.keys() == ROUNDING.keys() and BITS.keys() == OUTPUTS.keys()


@pytest.mark.parametrize("saturation", SATURATION)
@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("rounding", ROUNDING)
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-600, 600), min_size=1, max_size=40),
    shift=st.integers(0, LONGEST) | st.integers(0, 4),
)
def test_equals_exact_fractions(rounding, out, saturation, values, shift):
    values = values + EDGES
    got = srs(torch.tensor(values, dtype=torch.int32), shift, out, rounding, saturation)
    assert got.dtype == OUTPUTS[out]
    assert got.tolist() == [expected(value, shift, out, rounding, saturation) for value in values]


def test_ties_go_where_the_mode_says():
    halves = torch.tensor([-7, -5, -3, -1, 1, 3, 5, 7], dtype=torch.int32)  # of 2: −3.5 to 3.5
    made = {mode: srs(halves, 1, "int8", mode).tolist() for mode in ROUNDING}
    assert made["conv_even"] == [-4, -2, -2, 0, 0, 2, 2, 4]
    assert made["conv_odd"] == [-3, -3, -1, -1, 1, 1, 3, 3]
    assert made["positive_inf"] == made["ceil"] == [-3, -2, -1, 0, 1, 2, 3, 4]
    assert made["negative_inf"] == made["floor"] == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert made["symmetric_inf"] == made["symmetric_ceil"] == [-4, -3, -2, -1, 1, 2, 3, 4]
    assert made["symmetric_zero"] == made["symmetric_floor"] == [-3, -2, -1, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    "arguments, line",
    [
        ((torch.zeros(1), 0, "int8"), "sums must be int32; got torch.float32"),
        ((torch.zeros(1, dtype=torch.int32), 32, "int8"), r"shift must lie in 0\.\.31; got 32"),
        ((torch.zeros(1, dtype=torch.int32), -1, "int8"), "got -1"),
        ((torch.zeros(1, dtype=torch.int32), 0, "int4"), "out must be one of int8, int16, int32; got int4"),
        ((torch.zeros(1, dtype=torch.int32), 0, "int8", "up"), "rounding must be one of floor"),
        ((torch.zeros(1, dtype=torch.int32), 0, "int8", "floor", "yes"), "saturation must be one of none"),
    ],
    ids=["float", "shift 32", "shift −1", "int4", "rounding", "saturation"],
)
def test_refuses(arguments, line):
    with pytest.raises(ValueError, match=line):
        srs(*arguments)
