"""The compiled float kernels: which there are (csrc/float.inc), which run, and forcing some.

Without forcing, the best ones run that this CPU can and that go with no better kernels than those in use
(`kernels.use`, $OPSWAP_ISA): with those of AVX2, floats are multiplied on AVX2 too.
"""

import ctypes

from operators import kernels


def _library() -> ctypes.CDLL | None:
    library = kernels.library()
    if library:
        library.opswap_float_name.restype = ctypes.c_char_p
    return library


def built() -> tuple[str, ...]:
    """All that were compiled, best first; empty when no kernels are loaded."""
    library = _library()
    count = library.opswap_float_count() if library else 0
    return tuple(library.opswap_float_name(i).decode() for i in range(count)) if library else ()


def runnable() -> tuple[str, ...]:
    """Those of `built` that this CPU can run, best first."""
    library = _library()
    return tuple(name for i, name in enumerate(built()) if library and library.opswap_float_runs_here(i))


def used() -> str:
    """Those that answer for CPU tensors now: a name of `built`, or "reference"."""
    library = _library()
    return built()[library.opswap_float_used()] if library else kernels.REFERENCE


def use(name: str | None) -> None:
    """Makes `name` serve all later calls in this process; None: the best ones again. Raises ValueError when they were
    not built, do not run here, or no kernels are loaded."""
    library = _library()
    if library is None:
        raise ValueError(f"float_kernels.use({name!r}): no compiled kernels are loaded; call kernels.load()")
    if name is not None and name not in runnable():
        why = "this CPU cannot run it" if name in built() else "there is no such kernel"
        raise ValueError(f"float_kernels.use({name!r}): {why}; name one of {', '.join(runnable())}")
    library.opswap_float_use(-1 if name is None else built().index(name))
