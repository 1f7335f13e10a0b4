"""cuda's kernels: on a GPU where there is one, else in Triton's interpreter on the CPU.

Triton is no dependency of the others' tests: without it nothing here is collected, and `make test` runs this folder by
itself, with what requirements-triton.txt installs and TRITON_INTERPRET=1. pytest fails where it collects nothing.
"""

import importlib.util
import os

import pytest
import torch

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*.py"]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run."""
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.fail("there is no GPU: set TRITON_INTERPRET=1 before Python starts")
    return torch.device("cpu" if INTERPRETED else "cuda")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bad rows make the interpreter's numpy warn of what they are there for."""
    item.add_marker(pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"))
