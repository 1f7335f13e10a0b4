"""Rows and layers for the kernels, the references' results for them, and the two ways to write rows' levels."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import floating, reference
from operators.triton.int8 import Weight
from operators.triton.levels import MIDDLE
from tests.checks import assert_equal_bits
from tests.cuda.conftest import INTERPRETED

Rows = tuple[Tensor, Tensor, Tensor]
# products of no size, of one, of a tile, and of what is left over; the tile of the tests is 16 x 32 x 32
SHAPES = [(1, 1, 1), (2, 7, 1), (16, 32, 32), (33, 100, 65), (50, 129, 40)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 0.5


def bad_rows(k: int) -> Tensor:
    """NaN, infinities, zeros, numbers too small and too large to have a scale of their own, and good rows"""
    x = random(9, k)
    x[1, k // 2], x[2, 0], x[3, k - 1] = torch.nan, torch.inf, -torch.inf
    x[4], x[5] = 0, 1e-45
    x[6, 0], x[6, 1] = 3e38, -3e38
    x[7] = x[7].abs()
    return x


def weight(n: int, k: int, shifted: bool, bias: bool = True, seed: int = 1) -> Weight:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(-127, 128, (n, k), dtype=torch.int8, generator=generator)
    scale = torch.rand(n, generator=generator) * 0.01 + 0.001
    return Weight(q, scale, q.sum(1, dtype=torch.int32), random(n, seed=seed) if bias else None, shifted)


def to(device: torch.device, value: Any) -> Any:
    """Tensors, and tuples of them, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        parts = [to(device, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def unsigned(rows: Rows) -> Rows:
    """The kernels' rows as the reference writes them"""
    q, scale, zero_point = (part.cpu() for part in rows)
    return (q.to(torch.int32) + MIDDLE).to(torch.uint8), scale, zero_point + MIDDLE


def signed(rows: Rows) -> Rows:
    """The reference's rows as the kernels take them"""
    q, scale, zero_point = rows
    return (q.to(torch.int32) - MIDDLE).to(torch.int8), scale, zero_point - MIDDLE


def same_rows(have: Rows, want: Rows) -> None:
    for name, a, b in zip(("q", "scale", "zero point"), unsigned(have), want, strict=True):
        assert_equal_bits(a, b, name)


def same_levels(have: Tensor, want: Tensor) -> None:
    """The kernels' int8 are the reference's uint8; a GPU may fuse a product and a sum, and be a level apart."""
    assert (have.cpu().int() + MIDDLE - want.int()).abs().max() <= (0 if INTERPRETED else 1)


def sums(rows: Rows, layer: Weight) -> Tensor:
    """rows of the reference → its int32 [M, N]"""
    return reference.int8_matmul(rows[0], rows[2], reference.pack_weight(layer.weight), layer.total)


def floats(rows: Rows, layer: Weight) -> Tensor:
    return reference.scaled(sums(rows, layer), rows[1], layer.scale, layer.bias)


def activated(y: Tensor, activation: str) -> Tensor:
    """y float32 → what the layer's end makes of it, by the reference of the float linear"""
    return floating.ended(y.double(), None, activation, torch.float32)


def stepped(y: Tensor, activation: str) -> Tensor:
    """y float32 → the same by the steps of levels.activate, each rounded to float32: bit for bit what the interpreter
    makes of it, whose erf is the C library's in float64 and whose exp is numpy's"""
    if activation == "gelu":
        x = (y * 0.7071067811865476).double()
        return 0.5 * y * (1.0 + x.apply_(math.erf).float())
    if activation == "gelu_tanh":
        u = 0.7978845608028654 * (y + 0.044715 * y * y * y)
        return y * (1 / (1 + torch.from_numpy(np.exp(-(2.0 * u).numpy()))))
    if activation == "silu":
        return y * (1 / (1 + torch.from_numpy(np.exp(-y.numpy()))))
    return y
