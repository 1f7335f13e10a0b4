"""A gated feed-forward, act(a) · b of the two halves of each row, by itself and behind the int8 linear layer that
makes them, and GELU with no gate: schema, fake and reference.

activation: one of ACTIVATIONS, "gelu" being that by erf; second: it is of the second half, not the first. `rows` and
`levels` as in operators/fused.py. The compiled operators give the same bits for every instruction set and thread count;
their floats differ from the reference's by rounding, and as act(a) does: GELU by less than 4.3e-5, SiLU by less than
2e-7 · max(1, |a|).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import reference, validate
from operators.floating import GELUS, check_x, described
from operators.fused import PARTS, PRODUCT, ROWS, Levels, Product, Rows
from operators.schema import LEVELS, define, empty_rows
from operators.validate import require

ACTIVATIONS = (*GELUS, "silu")


def gated(x: Tensor, activation: str, second: bool) -> Tensor:
    """x float [..., 2N] → act(one half) · the other [..., N]"""
    halves = x.chunk(2, -1)
    half, other = (halves[1], halves[0]) if second else halves
    act = F.silu(half) if activation == "silu" else F.gelu(half, approximate=GELUS[activation])
    return act * other


def gate(x: Tensor, activation: str, second: bool) -> Tensor:
    """x float32 or bfloat16 [..., 2N] → [..., N], computed in float32 and rounded to x's dtype. Raises ValueError."""
    _check_gate(x, activation)
    return gated(x.to(torch.float32), activation, second).to(x.dtype)


def gelu(x: Tensor, by_tanh: bool = False) -> Tensor:
    """x float32 or bfloat16 [..., N] → GELU of each, computed in float32, rounded to x's dtype. Raises ValueError."""
    check_x("gelu", x)
    return F.gelu(x.to(torch.float32), approximate="tanh" if by_tanh else "none").to(x.dtype)


def gate_rows(x: Tensor, activation: str, second: bool, *levels: Any) -> Rows:
    """x float32 [M, 2N]; levels → rows [M, N] of what linear_int8_gate does to its product. Raises ValueError."""
    checked, _ = _check_rows(x, activation, *levels)
    return reference.quantize_per_token(gated(x, activation, second), *checked)


def linear_int8_gate(*args: Any) -> Rows:
    """rows [M, K], weight of 2N rows; activation, second, levels → rows [M, N]. Raises ValueError."""
    product, levels, _ = _check_linear(*args)
    return reference.quantize_per_token(gated(product.floats(), *args[PARTS : PARTS + 2]), *levels)


def _check_halves(op: str, columns: int, activation: str) -> int:
    """→ the columns of each half"""
    known = " or ".join(ACTIVATIONS)
    require(activation in ACTIVATIONS, f"{op}: activation must be {known}", activation, "choose one")
    fits = columns > 0 and columns % 2 == 0
    require(fits, f"{op}: the columns must be two halves of one width", columns, "pass both halves")
    return columns // 2


def _check_levels(
    op: str, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0
) -> Levels:
    validate.check_levels(op, symmetric, fixed_scale, fixed_zero, rotation)
    return symmetric, fixed_scale, fixed_zero, rotation


def _check_gate(x: Tensor, activation: str) -> int:
    check_x("gate", x)
    return _check_halves("gate", x.shape[-1], activation)


def _check_rows(x: Tensor, activation: str, *levels: Any) -> tuple[Levels, int]:
    """→ levels, and the columns that are made"""
    fits = x.dtype == torch.float32 and x.dim() == 2
    require(fits, "gate_rows: x must be float32 with 2 dimensions", described(x), "convert or reshape it")
    columns = _check_halves("gate_rows", x.shape[1], activation)
    validate.check_depth("gate_rows", columns)
    return _check_levels("gate_rows", *levels), columns


def _check_linear(*args: Any) -> tuple[Product, Levels, int]:
    """→ the product, levels, and the columns that are made"""
    op = "linear_int8_gate"
    product, (activation, _, *levels) = Product(*args[:PARTS]).check(op), args[PARTS:]
    columns = _check_halves(op, product.size()[1], activation)
    validate.check_depth(op, columns)  # they become rows
    return product, _check_levels(op, *levels), columns


def _fake_gate(x: Tensor, activation: str, second: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], _check_gate(x, activation)))


def _fake_gelu(x: Tensor, by_tanh: bool = False) -> Tensor:
    check_x("gelu", x)
    return x.new_empty(x.shape)


def _fake_rows(x: Tensor, activation: str, second: bool, *levels: Any) -> Rows:
    _, columns = _check_rows(x, activation, *levels)
    return empty_rows(x, x.shape[0], columns)


def _fake_linear(*args: Any) -> Rows:
    product, _, columns = _check_linear(*args)
    return empty_rows(product.q, product.size()[0], columns)


HOW = "str activation, bool second"
define("gelu", "(Tensor x, bool by_tanh=False) -> Tensor", gelu, _fake_gelu)
define("gate", f"(Tensor x, {HOW}) -> Tensor", gate, _fake_gate)
define("gate_rows", f"(Tensor x, {HOW}, {LEVELS}) -> {ROWS}", gate_rows, _fake_rows)
define("linear_int8_gate", f"({PRODUCT}, {HOW}, {LEVELS}) -> {ROWS}", linear_int8_gate, _fake_linear)
