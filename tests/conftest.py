"""One thread for every test, in a plain run and in one of many workers: tiny models gain nothing from a second one,
sums keep their order on any machine, and workers don't fight for cores. A test that is about threads sets their number.
"""

import os
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in the programs that tests start


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever the test sets, as `--threads` does."""
    import torch

    yield
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
