"""The AMX kernel's indices and layout, on any CPU: its sources, compiled with the instructions emulated in plain C.

That is all that was ever tested of it: no CPU with AMX was at hand.
"""

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from operators import build, reference, weight_sum
from tests.checks import assert_equal_bits
from tests.operators.samples import exact, integers
from tests.operators.test_memory import at_edge

POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Strip(ctypes.Structure):
    """As in csrc/kernels.h."""

    _fields_ = [
        *[("q", POINTER), ("q_stride", LONG), ("rows", LONG), ("k", LONG)],
        *[("zero_point", POINTER), ("panel", POINTER), ("next", POINTER), ("weight_sum", POINTER)],
        *[("columns", LONG), ("out_stride", LONG), ("acc", POINTER)],
        *[("y", POINTER), ("scale", POINTER), ("weight_scale", POINTER), ("bias", POINTER), ("near", POINTER)],
    ]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    library: Path = tmp_path_factory.mktemp("amx") / "amx.so"
    sources = [str(build.SOURCES / name) for name in ("gemm_amx.cpp", "peak_amx.cpp")]
    command = [*build.compiler(), *build.FLAGS, "-DAMX_EMULATED", "-shared", *sources, "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    yield loaded
    assert ctypes.c_int.in_dll(loaded, "amx_faults").value == 0, "tiles that the instructions would refuse"


def run(library: ctypes.CDLL, q: Tensor, zero: Tensor, weight: Tensor) -> Tensor:
    """One panel, every tensor ending at an unreadable page."""
    (m, k), n = q.shape, weight.shape[0]
    held = [at_edge(t) for t in (q, zero, reference.pack_weight(weight), weight_sum(weight))]
    acc = at_edge(torch.full((m, n), -1, dtype=torch.int32))
    address = [t.data_ptr() for t in held]
    none = [None] * 5
    strip = Strip(address[0], k, m, k, address[1], address[2], None, address[3], n, n, acc.data_ptr(), *none)
    library.gemm_amx(ctypes.byref(strip))
    return acc.clone()


@pytest.mark.parametrize("k", [1, 3, 4, 5, 60, 63, 64, 65, 67, 128, 191, 515])
def test_remainders(emulated: ctypes.CDLL, k: int) -> None:
    q, zero, weight = integers(50, 64, k, seed=k)
    want = exact(q, zero, weight)
    for m in (1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 50):
        for n in (1, 15, 16, 17, 31, 32, 33, 48, 63, 64):
            have = run(emulated, q[:m], zero[:m], weight[:n])
            assert_equal_bits(have, want[:m, :n].contiguous(), f"M={m} N={n} K={k}")


def test_extremes(emulated: ctypes.CDLL) -> None:
    k = 4099
    q = torch.tensor([255, 0], dtype=torch.uint8)[:, None].repeat(1, k)
    weight = torch.tensor([127, -127], dtype=torch.int8)[:, None].repeat(1, k)
    for zero_point in (0, 255):
        zero = torch.full((2,), zero_point, dtype=torch.int32)
        assert_equal_bits(run(emulated, q, zero, weight), exact(q, zero, weight))


def test_the_peak_counts_its_multiply_adds(emulated: ctypes.CDLL) -> None:
    emulated.peak_int8_amx.restype, emulated.peak_int8_amx.argtypes = LONG, [LONG]
    assert emulated.peak_int8_amx(0) == 0
    assert emulated.peak_int8_amx(1) == 12 * 8 * 16 * 16 * 64
