"""What a transformer's layer computes for each token by itself, as one operator: schema, fake and reference.

Its arguments are those of linear_int8_add_norm, linear_int8_gelu and linear_int8_add_norm again (operators/fused.py),
each without what the one before hands on: rows, and the last one's residual. Then the weights of a linear that reads
the result, or None for each.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from operators import fused
from operators.schema import define
from operators.validate import require

Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

ROWS, LINEAR, LEVEL, SMOOTHED, FLAG = 3, 4, 3, 2, 1
GIVEN = ROWS + LINEAR + 1  # rows, weights and residual of the first linear
NORM = 3 + LEVEL + SMOOTHED + FLAG  # gamma, beta, eps, how its result becomes rows, and keeps_sum


def feed_forward_int8(*args: Any) -> Result:
    """rows [M, K] → first: linear [N, K] + residual [M, N], LayerNorm, to rows; wide: linear [L, N], GELU, to rows;
    second: linear [N, L] + what first's LayerNorm gave, LayerNorm → y float32 [M, N]; its rows, of 0 rows where it is
    not quantized or another linear reads it; z float32 [M, P] of that linear [P, N], or [0, 0]. A norm that keeps its
    sum gives that in the place of y. Raises ValueError."""
    return _compose(args, fused.linear_int8_add_norm, fused.linear_int8_gelu, fused.linear_int8_rows)


def _fake(*args: Any) -> Result:
    return _compose(args, fused.fake_add_norm, fused.fake_gelu, fused.fake_rows)


def _compose(args: tuple[Any, ...], add_norm: Callable, gelu: Callable, linear: Callable) -> Result:
    try:
        return compose(args, add_norm, gelu, linear)
    except ValueError as error:  # of one of the parts
        raise ValueError(f"feed_forward_int8: {str(error).partition(': ')[2]}") from error


def compose(args: tuple[Any, ...], add_norm: Callable, gelu: Callable, linear: Callable) -> Result:
    """args: those of feed_forward_int8 → its results, by the operators that it is made of"""
    given, args = args[:GIVEN], args[GIVEN:]
    norm, args = args[:NORM], args[NORM:]
    wide, args = args[: LINEAR + LEVEL + FLAG], args[LINEAR + LEVEL + FLAG :]
    second, args = args[:LINEAR], args[LINEAR:]
    last, then = args[: NORM + 1], args[NORM + 1 :]
    gamma, beta, eps, *ways = norm
    y, *rows = add_norm(*given, gamma, beta, eps, True, *ways)
    y, *rows = add_norm(*gelu(*rows, *wide), *second, y, *last)
    _check_then(then, bool(last[3]))
    if then[0] is None:
        return y, *rows, y.new_empty((0, 0))
    empty = (part[:0] for part in rows)
    return y, *empty, linear(*rows, *then)


def _check_then(then: tuple[Any, ...], quantize: bool) -> None:
    there = [part is not None for part in then[:3]]
    require(
        len(set(there)) == 1 and (quantize or not there[0]) and (there[0] or then[3] is None),
        "feed_forward_int8: the fourth linear must have packed, weight_sum and weight_scale, and rows to read",
        "a part",
        "pass all of them, with quantize, or none",
    )


def _numbered(number: int, *arguments: str) -> str:
    """Arguments under names of their own: a schema has no two alike, and no defaults in its middle."""
    return "".join(f", {argument}{number}" for argument in arguments)


_WEIGHTS = ("Tensor packed", "Tensor weight_sum", "Tensor weight_scale", "Tensor? bias")
_NORM = ("Tensor gamma", "Tensor beta", "float eps")
_LEVELS = ("bool symmetric", "float fixed_scale", "int fixed_zero")
_SMOOTH = ("Tensor? smooth_scale", "Tensor? smooth_shift")

define(
    "feed_forward_int8",
    "(Tensor q, Tensor scale, Tensor zero_point"
    + _numbered(1, *_WEIGHTS)
    + ", Tensor residual"
    + _numbered(1, *_NORM, *_LEVELS, *_SMOOTH, "bool keeps_sum")
    + _numbered(2, *_WEIGHTS, *_LEVELS, "bool by_tanh")
    + _numbered(3, *_WEIGHTS, *_NORM)
    + ", bool quantize"
    + _numbered(3, *_LEVELS, *_SMOOTH, "bool keeps_sum")
    + _numbered(4, "Tensor? packed", "Tensor? weight_sum", "Tensor? weight_scale", "Tensor? bias")
    + ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    feed_forward_int8,
    _fake,
)
