"""The compiled attention kernels: which there are (csrc/attention.inc), which runs, and forcing one.

Without forcing, the best one runs that this CPU can and that is no better than the kernels in use
(`kernels.use`, $OPSWAP_ISA): with those of AVX2, attention runs on AVX2 too.
"""

import ctypes

from operators import kernels


def _library() -> ctypes.CDLL | None:
    library = kernels.library()
    if library:
        library.opswap_attention_name.restype = ctypes.c_char_p
    return library


def built() -> tuple[str, ...]:
    """All that were compiled, best first; empty when no kernels are loaded."""
    library = _library()
    return (
        tuple(library.opswap_attention_name(i).decode() for i in range(library.opswap_attention_count()))
        if library
        else ()
    )


def runnable() -> tuple[str, ...]:
    """Those of `built` that this CPU can run, best first."""
    library = _library()
    return tuple(name for i, name in enumerate(built()) if library and library.opswap_attention_runs_here(i))


def used() -> str:
    """The one that answers for CPU tensors now: a name of `built`, or "reference"."""
    library = _library()
    return built()[library.opswap_attention_used()] if library else kernels.REFERENCE


def use(name: str | None) -> None:
    """Makes `name` serve all later calls in this process; None: the best one again. Raises ValueError when it was
    not built, does not run here, or no kernels are loaded."""
    library = _library()
    if library is None:
        raise ValueError(f"attention_kernels.use({name!r}): no compiled kernels are loaded; call kernels.load()")
    if name is not None and name not in runnable():
        why = "this CPU cannot run it" if name in built() else "there is no such kernel"
        raise ValueError(f"attention_kernels.use({name!r}): {why}; name one of {', '.join(runnable())}")
    library.opswap_attention_use(-1 if name is None else built().index(name))
