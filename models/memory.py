"""How glibc hands memory to a process that makes and frees tensors of ever new sizes."""

import ctypes
import platform

from targets._pages import nobody_writes

__all__ = ["give_back_memory", "keep_freed_memory", "nobody_writes"]

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def give_back_memory() -> None:
    """Freed blocks go back to the kernel once, where glibc has the memory, so that what is measured next counts no
    leftovers."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> bool:
    """Freed blocks stay with the process instead of going back to the kernel; whether that was set.

    With glibc's defaults every large tensor is mapped and zeroed anew: with batches of many lengths that
    took a third of the time of a training step. Elsewhere than on glibc nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
