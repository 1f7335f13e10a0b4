"""What a Q/DQ graph does with a linear's input → how its rows become bytes."""

import operator
from typing import Any, NamedTuple

import torch
from torch import fx

from targets._linear import MIDDLE, Activation
from targets._whole import Whole
from toolkit.qdq.nodes import BYTES, Unreadable, arguments, constant, operator_of, require_float32

FULL = (0, 255)
CHOOSE_WHOLE = {"choose_qparams": False, "choose_qparams_symmetric": True}  # → symmetric
CHOOSE_TOKEN = {"choose_qparams_per_token_asymmetric": False, "choose_qparams_per_token": True}

Limits = tuple[float, float] | None
Read = tuple[Activation | Whole, Limits]


class Input(NamedTuple):
    """The node that quantizes x; how; limits: what x has to be clamped to before, where some levels are not used"""

    node: fx.Node
    how: Activation | Whole
    limits: Limits


def read_input(gm: fx.GraphModule, node: Any) -> Input:
    """dequantize(quantize(x, scale, zero_point), the same) → Input, for levels that fit a byte. Raises Unreadable.

    per tensor, scale and zero point constants       → Activation(scale, zero point): static
    per tensor, both of choose_qparams(x)            → Whole: dynamic, one range for all of x
    per token, both of choose_qparams_per_token…(x)  → Activation(): dynamic, each row by its own range
    """
    kind = operator_of(node).removeprefix("dequantize_")
    quantize: Any = node.args[0] if kind in ("per_tensor", "per_token") else None
    if operator_of(quantize) != f"quantize_{kind}":
        raise Unreadable("its input is not quantized right before it, per tensor or per token")
    require_float32(node)
    given, again = arguments(quantize), arguments(node)
    for name in given.keys() - {"input"}:
        if given[name] != again.get(name):
            raise Unreadable(f"its input is quantized with one {name} and dequantized with another")
    if given["dtype"] not in BYTES:
        raise Unreadable(f"its input is quantized to {given['dtype']}, not to bytes")
    how, limits = _per_token(given) if kind == "per_token" else _per_tensor(gm, given)
    return Input(quantize, how, limits)


def _per_token(given: dict[str, Any]) -> Read:
    chosen, scale, zero = _chosen(given, "scales", "zero_points", CHOOSE_TOKEN)
    symmetric = CHOOSE_TOKEN[operator_of(chosen)]  # then no level is below -127
    levels = given["quant_max"] == 127 and given["quant_min"] in ((-128, -127) if symmetric else (-128,))
    if (scale, zero) != (0, 1) or given["dtype"] != torch.int8 or not levels:
        raise Unreadable("its input is quantized per token to other levels than those of a signed byte")
    return Activation(symmetric), None


def _per_tensor(gm: fx.GraphModule, given: dict[str, Any]) -> Read:
    offset = BYTES[given["dtype"]]
    low, high = given["quant_min"] + offset, given["quant_max"] + offset
    if not 0 <= low < high <= 255:
        raise Unreadable(f"its input is quantized to levels {low} to {high}, counted as unsigned bytes")
    if isinstance(given["scale"], fx.Node) and given["scale"].target is operator.getitem:
        return _whole(given, low, high)
    scale, zero = float(constant(gm, given["scale"])), int(constant(gm, given["zero_point"])) + offset
    try:
        if (low, high, zero) == (1, 255, MIDDLE):
            return Activation(True, scale, zero), None
        limits = None if (low, high) == FULL else ((low - zero) * scale, (high - zero) * scale)
        return Activation(False, scale, zero), limits
    except ValueError as error:
        raise Unreadable(f"its input's scale or zero point cannot be used: {error}") from error


def _whole(given: dict[str, Any], low: int, high: int) -> Read:
    chosen, scale, zero = _chosen(given, "scale", "zero_point", CHOOSE_WHOLE)
    made = arguments(chosen)
    same = all(made[name] == given[name] for name in ("quant_min", "quant_max", "dtype"))
    if (scale, zero) != (0, 1) or not same:
        raise Unreadable("its input is quantized to other levels than its range was chosen for")
    return Whole(CHOOSE_WHOLE[operator_of(chosen)], low, high, made["eps"]), None


def _chosen(given: dict[str, Any], scale: str, zero: str, known: dict[str, bool]) -> tuple[fx.Node, int, int]:
    """→ the node that chose scale and zero point by looking at x, and which of its results they are"""
    parts = [given[name] for name in (scale, zero)]
    taken = [part.args if isinstance(part, fx.Node) and part.target is operator.getitem else None for part in parts]
    if None in taken or taken[0][0] is not taken[1][0] or operator_of(taken[0][0]) not in known:  # type: ignore
        raise Unreadable("its input's scale and zero point are computed in another way than by looking at it")
    chosen: Any = taken[0][0]  # type: ignore[index]
    if arguments(chosen)["input"] is not given["input"]:
        raise Unreadable("its input is quantized by the range of another tensor")
    return chosen, taken[0][1], taken[1][1]  # type: ignore
