"""One thread for every test, in a plain run and in one of many workers: tiny models gain nothing from a second one,
sums keep their order on any machine, and workers don't fight for cores. A test that is about threads sets their number.
"""

import os
import sys
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in the programs that tests start


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever the test sets, as `--threads` does."""
    import torch

    from targets._pages import nobody_writes

    yield
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    nobody_writes(False)  # as commands say


@pytest.fixture(autouse=True, scope="session")
def one_export_each() -> Iterator[None]:
    """Of all models of one structure; tests/toolkit/test_capture.py alone has every one exported anew."""
    import toolkit  # noqa: F401  # torch is imported now, with the threads from above
    from tests.captures import same_program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["toolkit.capture"], "export", same_program)
        yield
