"""Quantizing that is ended after so many batches of one pass, and what comes of it otherwise."""

from functools import cache

import pytest

from benchmarks.outliers import plant
from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits
from toolkit import Recipe
from toolkit.pipeline import quantized

BATCHES = 4
RECIPES = {"dynamic": Recipe("int"), "static": Recipe("int", scheme="static")}


class Killed(Exception):
    """Stands for the end of a process."""


class Kill:
    """Told of the batches of every pass, it ends the run after so many of one pass; told: all that it was told."""

    def __init__(self, number: int = 0, after: int = 0) -> None:
        self.number, self.after = number, after
        self.told: list[list[int]] = []

    def __call__(self, done: int) -> None:
        if not self.told or done != self.told[-1][-1] + 1:
            self.told.append([])
        self.told[-1].append(done)
        if (len(self.told), done) == (self.number, self.after):
            raise Killed


@cache
def model_and_data():
    model = tiny.build("bert")
    batches = [tiny.inputs(model, 3, 20, seed) for seed in range(BATCHES)]
    plant(model, batches[0], outliers=2)
    return model, batches


def made(scheme="dynamic", data=None, folder=None, progress=None):
    """→ the integers, scales and biases of all linears, by name"""
    model, batches = model_and_data()
    graph = quantized(model, RECIPES[scheme], data or batches, folder, progress)
    linears = {name: one for name, one in graph.named_modules() if isinstance(one, QuantizedLinear)}
    parts = {f"{n}.{part}": getattr(one, part) for n, one in linears.items() for part in ("weight", "scale", "bias")}
    return parts, {name: one.activation for name, one in linears.items()}


@cache
def whole(scheme):
    return made(scheme)


def assert_same(found, expected):
    assert found[1] == expected[1] and found[0].keys() == expected[0].keys() and len(found[1]) == 12
    for name, tensor in expected[0].items():
        assert_equal_bits(found[0][name], tensor, name)


def kill(folder, scheme="dynamic", number=2, after=3):
    with pytest.raises(Killed):
        made(scheme, folder=folder, progress=Kill(number, after))
