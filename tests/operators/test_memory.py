"""Kernels read and write nothing beyond their tensors: each tensor ends where an unreadable page begins."""

import ctypes
import mmap

import pytest
import torch
from torch import Tensor

from operators import reference
from tests.checks import assert_equal_bits
from tests.operators.samples import integers, linear, ops, weight_sum

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)


def at_edge(t: Tensor) -> Tensor:
    """A copy whose last byte is the last one before a page that must not be touched."""
    size = t.numel() * t.element_size()
    room = -(-size // PAGE) * PAGE
    area = mmap.mmap(-1, room + PAGE)  # the tensor keeps it alive
    moved = torch.frombuffer(area, dtype=t.dtype, count=t.numel(), offset=room - size).view(t.shape)
    moved.copy_(t)
    guard = moved.data_ptr() + size
    assert LIBC.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0, f"mprotect: errno {ctypes.get_errno()}"
    return moved


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 3, 5), (13, 67, 66), (6, 64, 64), (2, 130, 31)])
def test_int8_matmul(isa: str, m: int, n: int, k: int) -> None:
    q, zero, weight = integers(m, n, k)
    args = q, zero, ops.pack_weight(weight), weight_sum(weight)
    assert_equal_bits(ops.int8_matmul(*map(at_edge, args)), reference.int8_matmul(*args), isa)


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 3, 5), (13, 67, 66), (2, 130, 31)])
def test_linear_int8(isa: str, levels: tuple[bool, float, int, int], m: int, n: int, k: int) -> None:
    x, layer = torch.randn(m, k), linear(n, k)
    have = ops.linear_int8(at_edge(x), *(at_edge(t) for t in layer.args() if t is not None), *levels)
    assert_equal_bits(have, reference.linear_int8(x, *layer.args(), *levels), isa)


@pytest.mark.parametrize("rows, heads, d", [(1, 1, 1), (7, 3, 5), (33, 1, 32), (20, 2, 80)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_attention(kernel: str, rows: int, heads: int, d: int, dtype: torch.dtype) -> None:
    qkv, starts = torch.randn(rows, 3 * heads * d).to(dtype), torch.tensor([0, rows], dtype=torch.int32)
    keep = torch.arange(rows) % 3 < 2
    have = ops.attention(*map(at_edge, (qkv, starts, keep)), heads, 0.3)
    assert_equal_bits(have, ops.attention(qkv, starts, keep, heads, 0.3), kernel)
