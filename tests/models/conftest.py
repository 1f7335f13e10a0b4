"""Runs that stopped."""

from pathlib import Path

import pytest

from tests.models.runs import AVERAGED, Killed, raise_at, run


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
