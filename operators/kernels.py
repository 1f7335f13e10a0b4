"""The compiled kernels: load them once, say what runs, force one instruction set.

csrc/kernels.inc is the only list of kernels; what is said here is asked of the library that was built from it.
"""

import ctypes
import os
import sys
import threading
from dataclasses import dataclass

import torch

from operators import schema as _schema  # noqa: F401  the library implements what the schemas define

NOT_LOADED = "the kernels are not loaded: call operators.kernels.load()"
REFERENCE = "reference"

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_reason: str | None = NOT_LOADED


class NoSuchKernels(ValueError):
    """Kernels were asked for by a name that was not built, or that this CPU cannot run: one line."""


@dataclass(frozen=True)
class KernelStatus:
    """What answers torch.ops.opswap for CPU tensors now."""

    compiled: bool
    isa: str  # a name of `built`, or "reference"
    built: tuple[str, ...]  # best first
    reason: str | None  # what holds it, or a kernel of another kind, back; None where the best of each kind serves


def load() -> None:
    """Builds the kernels or finds an earlier build, and loads them; a second call does nothing.

    When they cannot be built or loaded, one line on standard error says so, and the Python reference goes on to serve.
    Raises NoSuchKernels when OPSWAP_ISA asks for kernels that do not exist or do not run here, and BuildError when it
    asks for compiled ones that cannot be had.
    """
    from operators import build  # here, so that `python -m operators.build` finds it unimported

    global _reason
    with _lock:
        if _reason != NOT_LOADED:
            return
        forced = os.environ.get("OPSWAP_ISA", "")
        if forced == REFERENCE:
            _reason = "OPSWAP_ISA=reference"
            return
        try:
            path = build.build()
            _open(build.opened(path), str(path), forced)
        except build.BuildError as error:
            if forced:
                raise build.BuildError(f"OPSWAP_ISA={forced} needs compiled kernels: {error}", error.log) from error
            _reason = str(error)
            print(f"opswap: SLOW: the Python reference stands in for the kernels: {error}", file=sys.stderr)


def _open(library: ctypes.CDLL, path: str, forced: str) -> None:
    global _library, _reason
    library.opswap_isa.restype = ctypes.c_char_p
    if forced:
        _use(library, forced, f"OPSWAP_ISA={forced}", REFERENCE)
    torch.ops.load_library(path)
    _library, _reason = library, f"OPSWAP_ISA={forced}" if forced else None


def _built(library: ctypes.CDLL) -> tuple[str, ...]:
    return tuple(library.opswap_isa(i).decode() for i in range(library.opswap_count()))


def _runnable(library: ctypes.CDLL) -> tuple[str, ...]:
    return tuple(isa for i, isa in enumerate(_built(library)) if library.opswap_runs_here(i))


def _use(library: ctypes.CDLL, isa: str, what: str, *others: str) -> None:
    """others: what `what` takes besides compiled kernels"""
    built, runnable = _built(library), _runnable(library)
    if isa not in runnable:
        why = "this CPU cannot run it" if isa in built else "there is no such kernel"
        raise NoSuchKernels(f"{what}: {why}; name one of {', '.join((*runnable, *others))}")
    library.opswap_use(built.index(isa))


def library() -> ctypes.CDLL | None:
    """The loaded library; None when there is none."""
    return _library


def runnable() -> tuple[str, ...]:
    """The built kernels that this CPU can run, best first; empty when none are loaded."""
    return _runnable(_library) if _library else ()


def forced() -> str | None:
    """What of the compiled kernels `use` or OPSWAP_ISA named; None: none, and the best serves."""
    index = _library.opswap_forced() if _library else -1
    return _built(_library)[index] if _library and index >= 0 else None


def use(isa: str | None) -> None:
    """Makes `isa` serve all later calls in this process; None: the best one again. Raises NoSuchKernels when it was
    not built or does not run here, ValueError when no kernels are loaded."""
    global _reason
    if _library is None:
        raise ValueError(f"kernels.use({isa!r}): no compiled kernels are loaded ({_reason}); call kernels.load()")
    if isa is None:
        _library.opswap_use(-1)
    else:
        _use(_library, isa, f"kernels.use({isa!r})")
    _reason = None if isa is None else f"kernels.use({isa!r})"


def status() -> KernelStatus:
    """What runs now, and why. It neither builds nor loads."""
    if _library is None:
        return KernelStatus(False, REFERENCE, (), _reason)
    built = _built(_library)
    return KernelStatus(True, built[_library.opswap_used()], built, _reason)
