"""A fixture that forces each compiled kernel of a kind in turn: the lesser ones run where the best does, too."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from operators import kernels
from operators.choice import Choice


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
