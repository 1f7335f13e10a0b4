"""The nodes of a Q/DQ graph, known by the names of PyTorch's quantized_decomposed operators."""

from typing import Any

import torch
from torch import Tensor, fx

LIBRARY = "quantized_decomposed"
DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel", "dequantize_per_token")
BYTES = {torch.uint8: 0, torch.int8: 128}  # what is added to make levels unsigned bytes


class Unreadable(Exception):
    """A part of a Q/DQ graph that has no counterpart among the quantized linears; the message says why."""


def operator_of(node: Any) -> str:
    """→ "quantize_per_tensor" and the like, whatever the overload; "" for anything that is not of LIBRARY"""
    target = node.target if isinstance(node, fx.Node) else None
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != LIBRARY:
        return ""
    return target.name().removeprefix(f"{LIBRARY}::").partition(".")[0]


def arguments(node: fx.Node) -> dict[str, Any]:
    """→ what an operator is called with, by the names of its schema; defaults are left out"""
    target: Any = node.target
    names = [argument.name for argument in target._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def constant(gm: fx.GraphModule, value: Any) -> Any:
    """→ the number or tensor that `value` always is: itself, an attribute, or an operator of LIBRARY on such

    Raises Unreadable if it depends on the inputs.
    """
    if not isinstance(value, fx.Node):
        return value
    if value.op == "get_attr":
        owner, _, leaf = str(value.target).rpartition(".")
        held = getattr(gm.get_submodule(owner), leaf)
        return held.detach() if isinstance(held, Tensor) else held
    if not operator_of(value):
        raise Unreadable(f"{value.name} is computed in the graph")
    operator: Any = value.target
    given = {name: constant(gm, argument) for name, argument in arguments(value).items()}
    return operator(**given)


def require_float32(dequantize: fx.Node) -> None:
    """Raises Unreadable if `dequantize` makes anything but float32, which it does unless it is told."""
    given = arguments(dequantize)
    dtype = given.get("out_dtype", given.get("output_dtype"))
    if dtype not in (None, torch.float32):
        raise Unreadable(f"{dequantize.name} makes {dtype}, not float32")
