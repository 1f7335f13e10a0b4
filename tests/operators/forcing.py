"""Each compiled kernel of a kind forced in turn: the lesser ones run where the best does, too."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from torch import Tensor

from operators import kernels
from operators.choice import Choice
from tests.checks import assert_equal_bits


def each_kernel(choice: Choice) -> Callable[..., Any]:
    """→ the fixture `kernel`: each built kernel of `choice` in turn, in use."""
    kernels.load()

    @pytest.fixture(params=choice.built() or ["none"], name="kernel")
    def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
        if not choice.built():
            pytest.fail(f"no kernels to test: {kernels.status().reason}")
        if request.param not in choice.runnable():
            pytest.skip(f"this CPU cannot run {request.param}")
        choice.use(request.param)
        yield request.param
        choice.use(None)

    return kernel


def assert_same_bits(compute: Callable[[], Iterable[Tensor]], threads: Callable[[int], None]) -> None:
    """`compute` gives the same with each kernel of kernels.inc that runs here, on one thread and several."""
    before, expected = kernels.forced(), list(compute())
    try:
        for isa in kernels.runnable():
            kernels.use(isa)
            for count in (1, 2, 3):
                threads(count)
                for one, other in zip(compute(), expected, strict=True):
                    assert_equal_bits(one, other)
    finally:
        kernels.use(before)
