"""Every kernel of csrc/kernels.inc is tested in one process, by forcing it: `kernels.use(isa)`.

That is how the lesser ones run on a machine that has the best: an AVX-512 CPU runs the AVX2 kernel and the
portable one too. Which of them a CPU with less chooses: test_choice.py.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from operators import attention_kernels, kernels
from tests.activations import ACTIVATIONS
from tests.operators.forcing import each_kernel

kernels.load()


@pytest.fixture(params=kernels.status().built or ["none"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each built kernel in turn, in use."""
    if not kernels.status().compiled:
        pytest.fail(f"no kernels to test: {kernels.status().reason}")
    if request.param not in kernels.runnable():
        pytest.skip(f"this CPU cannot run {request.param}")
    before = kernels.forced()
    kernels.use(request.param)
    yield request.param
    kernels.use(before)


@pytest.fixture
def any_kernel() -> Iterator[None]:
    """The one in use before is in use again afterwards."""
    before = kernels.forced()
    yield
    kernels.use(before)


kernel = each_kernel(attention_kernels)


@pytest.fixture(params=ACTIVATIONS)
def levels(request: pytest.FixtureRequest) -> tuple[bool, float, int, int]:
    """symmetric, fixed_scale, fixed_zero and rotation"""
    return ACTIVATIONS[request.param].levels()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """→ what changes the number of threads, for this test alone"""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
