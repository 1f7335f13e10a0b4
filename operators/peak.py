"""The most multiply-adds a second that this CPU can do, measured: dot-product instructions on registers alone.

csrc/peak.inc is the list of what can be measured.
"""

import ctypes
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from operators import kernels

SECONDS = 0.02  # of one try: long against waking the threads, short against a time slice
TRIES = 15


class PeakError(RuntimeError):
    """There is nothing to measure the peak with: one line that says why."""


@dataclass(frozen=True)
class Peak:
    """type: int8, bf16 or fp32. tops: 10¹² operations a second on all `threads`, two a multiply-add."""

    type: str
    isa: str
    threads: int
    tops: float


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """The loaded kernels' library, which holds the loops too. Raises PeakError where there is none."""
    kernels.load()
    library = kernels.library()
    if library is None:
        raise PeakError(f"no measured peak: the kernels are not compiled ({kernels.status().reason})")
    for name in ("opswap_peak_type", "opswap_peak_isa"):
        getattr(library, name).restype = ctypes.c_char_p
    library.opswap_peak_run.restype = ctypes.c_int64
    library.opswap_peak_run.argtypes = (ctypes.c_int, ctypes.c_int64)
    return library


def listed() -> tuple[tuple[str, str, bool], ...]:
    """(type, instruction set, whether it runs here) of everything in the list. Raises PeakError."""
    found = _library()
    return tuple(
        (
            found.opswap_peak_type(i).decode(),
            found.opswap_peak_isa(i).decode(),
            bool(found.opswap_peak_runs_here(i)),
        )
        for i in range(found.opswap_peak_count())
    )


def run(index: int, loops: int) -> int:
    """Runs entry `index` of the list on the calling thread, without the interpreter's lock; → multiply-adds done.

    Raises ValueError for an entry that this CPU cannot run.
    """
    if not 0 <= index < len(listed()) or not listed()[index][2]:
        raise ValueError(f"peak.run wants an entry that runs here; got {index}; see peak.listed()")
    return _library().opswap_peak_run(index, loops)


def measure(threads: int, tries: int = TRIES) -> dict[str, Peak]:
    """The best of `tries` for the best instruction set of each type that runs here, by type. Raises PeakError."""
    found: dict[str, Peak] = {}
    with ThreadPoolExecutor(threads) as pool:
        for index, (kind, isa, runs_here) in enumerate(listed()):
            if runs_here and kind not in found:
                found[kind] = Peak(kind, isa, threads, 2e-12 * _rate(pool, threads, index, tries))
    return found


def _rate(pool: ThreadPoolExecutor, threads: int, index: int, tries: int) -> float:
    """Multiply-adds a second of all threads together: from the first one's start to the last one's end."""
    loops = 1000
    while (seconds := _timed(index, loops)) < SECONDS:
        loops = int(loops * min(10, 1.2 * SECONDS / seconds))
    best = 0.0
    for _ in range(tries):
        together = threading.Barrier(threads)

        def one(together: threading.Barrier = together) -> tuple[float, float, int]:
            together.wait()
            begun = time.perf_counter()
            done = run(index, loops)
            return begun, time.perf_counter(), done

        spans = [future.result() for future in [pool.submit(one) for _ in range(threads)]]
        seconds = max(end for _, end, _ in spans) - min(begun for begun, _, _ in spans)
        best = max(best, sum(done for _, _, done in spans) / seconds)
    return best


def _timed(index: int, loops: int) -> float:
    begun = time.perf_counter()
    run(index, loops)
    return time.perf_counter() - begun
