"""A weight in a Q/DQ graph → int8 and one scale for each output channel."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from operators.validate import MAX_K, MAX_K_128
from toolkit.qdq.nodes import Unreadable, arguments, constant, operator_of, require_float32


class Weight(NamedTuple):
    """integers int8 [N, K], scale float32 [N]"""

    integers: Tensor
    scale: Tensor


def read_weight(gm: fx.GraphModule, node: Any) -> Weight:
    """dequantize_per_channel(weight, scale, zero_point, axis 0) or dequantize_per_tensor(...) → Weight

    The weight is in integers already, or floats that the graph quantizes, by the graph's own operator. Zero points
    are taken off where int8 holds what is left, as it does for unsigned bytes around 128. Raises Unreadable.
    """
    operator = operator_of(node)
    if operator not in ("dequantize_per_channel", "dequantize_per_tensor"):
        raise Unreadable("its weight is not quantized by output channel or as a whole")
    require_float32(node)
    given = arguments(node)
    if given.get("axis", 0) != 0:
        raise Unreadable(f"its weight has its scales along axis {given['axis']}, not by output channel")
    levels: Tensor = constant(gm, given["input"])
    scale, zero = (_by_channel(constant(gm, given.get(name)), levels) for name in _names(operator))
    integers = levels.to(torch.int32) - zero.to(torch.int32)[:, None]
    _require_int8(integers)
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise Unreadable("its weight has a scale that is not above 0")
    return Weight(integers.to(torch.int8), scale.to(torch.float32).contiguous())


def _names(operator: str) -> tuple[str, str]:
    return ("scales", "zero_points") if operator == "dequantize_per_channel" else ("scale", "zero_point")


def _by_channel(value: Any, levels: Tensor) -> Tensor:
    """One number for all, one for each output channel, or none (zeros) → [N]"""
    if levels.dim() != 2:
        raise Unreadable(f"its weight has {levels.dim()} dimensions, not 2")
    given = torch.as_tensor(0 if value is None else value).reshape(-1)
    return given.expand(levels.shape[0])


def _require_int8(integers: Tensor) -> None:
    k = integers.shape[1]
    low, high = (int(value) for value in integers.aminmax()) if integers.numel() else (0, 0)
    if low < -128 or high > 127:
        raise Unreadable(f"its weight has zero points: without them its integers reach from {low} to {high}")
    most = MAX_K if low > -128 else MAX_K_128
    if not 0 < k <= most:
        raise Unreadable(f"int32 holds the sums of 1 to {most} of its products; it has {k}")
