"""One thread for all tests here: tiny models gain nothing from more, and sums keep their order. Runs that stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.models.runs import AVERAGED, Killed, raise_at, run


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with the state of step 4, without a mean."""
    with pytest.raises(Killed):
        run(tmp_path, on_step=raise_at(5))
    return tmp_path


@pytest.fixture
def stopped_with_mean(tmp_path: Path) -> Path:
    """A folder with the state of step 6, the first that is in the mean."""
    with pytest.raises(Killed):
        run(tmp_path, AVERAGED, raise_at(7))
    return tmp_path
