"""How the row kernels are launched: a few whole rows a program; and whether it is the interpreter that runs them."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from operators.triton.levels import FP8, Levels
from operators.validate import require

WIDEST = 65_536  # columns that one program holds in registers
ENOUGH = 1_024  # elements that keep a program's threads busy: shorter rows share one


class Shape(NamedTuple):
    """ROWS rows of COLUMNS columns a program, num_warps warps of 32 threads"""

    ROWS: int
    COLUMNS: int
    num_warps: int

    def grid(self, m: int) -> tuple[int]:
        return (triton.cdiv(m, self.ROWS),)


def shape(n: int) -> Shape:
    """→ for rows of n columns. Raises ValueError where they are too wide."""
    require(0 < n <= WIDEST, f"rows of 1..{WIDEST} columns were wanted", n, "use a narrower layer")
    columns = max(16, triton.next_power_of_2(n))
    rows = max(1, ENOUGH // columns)
    return Shape(rows, columns, 4 if rows * columns <= 4096 else 8)


def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter"""
    return bool(triton.knobs.runtime.interpret)


def snaps(dtype: torch.dtype) -> bool:
    """Whether floats must be made values of `dtype` before they are converted: the interpreter cuts off what bfloat16
    lacks"""
    return interpreted() and dtype == torch.bfloat16


def empty_rows(like: Tensor, m: int, n: int, levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
    """→ rows, not filled in, on the device of `like`"""
    kind = torch.float8_e4m3fn if levels.how == FP8 else torch.int8
    q = torch.empty((m, n), dtype=kind, device=like.device)
    return q, like.new_empty((m,), dtype=torch.float32), like.new_empty((m,), dtype=torch.int32)


def constants(levels: Levels) -> dict[str, object]:
    """→ what store_levels takes by name; and where it rotates, that a product and a sum are not rounded as one, and
    that the sum of two numbers' bits is no fault where TRITON_DEBUG looks for overflow"""
    how = {"HOW": levels.how, "FIXED": levels.scale > 0, "SNAP": interpreted(), "ROTATION": levels.rotation}
    return {**how, "enable_fp_fusion": not levels.rotation, "sanitize_overflow": not levels.rotation}
