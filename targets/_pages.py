"""Weights that are files mapped into memory, as safetensors loads them: what was read of a file can be read again, so
nothing of it has to stay."""

import ctypes
from mmap import PAGESIZE
from pathlib import Path

import numpy as np
from torch import Tensor

PAGEMAP = Path("/proc/self/pagemap")  # 8 bytes a page; its flags: Documentation/admin-guide/mm/pagemap.rst of Linux
IN_MEMORY, SWAPPED, OF_A_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))
MADV_DONTNEED = 4


_alone = False


def nobody_writes(sure: bool = True) -> None:
    """Says for this process that no thread writes to a model's weights while another transforms it; else none are let
    go. What a thread writes to a page for the first time between the look at it and its leaving would be lost, from the
    model itself: no call of the system lets go of unwritten pages alone but MADV_PAGEOUT, with which a file leaves the
    system's memory too, and is read from the disk again."""
    global _alone
    _alone = sure


def let_go(tensor: Tensor) -> int:
    """The pages of `tensor` leave the process's memory and come back by themselves when they are read; its values stay.

    Only pages that hold what their file holds: memory of no file, and a file's where anything was written to it, stays
    as it is, and so does everything where the system isn't Linux, or nobody said `nobody_writes`. → the bytes that left
    """
    if not _alone:
        return 0
    pages = _whole_pages(tensor)
    flags = _flags(pages)
    if len(flags) < len(pages):  # nothing is known of the rest
        return 0
    here, swapped, of_a_file = ((flags & bit) > 0 for bit in (IN_MEMORY, SWAPPED, OF_A_FILE))
    if not here.any() or swapped.any() or not of_a_file[here].all():
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    refused = advise(pages.start * PAGESIZE, len(pages) * PAGESIZE, MADV_DONTNEED)
    return 0 if refused else int(here.sum()) * PAGESIZE


def _whole_pages(tensor: Tensor) -> range:
    """→ the numbers of the pages that hold nothing but this tensor"""
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        return range(0)
    start = tensor.data_ptr()
    return range(-(-start // PAGESIZE), (start + tensor.nbytes) // PAGESIZE)


def _flags(pages: range) -> np.ndarray:
    """→ uint64, one for each page; none where the system does not say"""
    try:
        with PAGEMAP.open("rb", buffering=0) as file:
            file.seek(pages.start * 8)
            return np.frombuffer(file.read(len(pages) * 8), dtype=np.uint64)
    except OSError:
        return np.empty(0, dtype=np.uint64)
