"""A float32 graph → bfloat16 or float16, where there is no model any more to capture anew."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from targets.base import UsageError
from toolkit.inputs import KEY, Inputs

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # by precision; at all others graphs are in float32
FLOATS = (torch.float32, torch.float64)


def narrow(gm: fx.GraphModule, dtype: torch.dtype) -> int:
    """float32 weights, constants and keys and values of a cache → `dtype`, in place. → how many tensors

    Raises UsageError for a graph that computes in float32 somewhere because its model said so: it would not be what
    the model does at this precision.
    """
    for node in gm.graph.nodes:
        found = [one for one in pytree.tree_leaves((node.args, dict(node.kwargs))) if _pins(one, dtype)]
        if found:
            what = f"the graph's {node.name} has {found[0]} by itself, which has no place in {dtype}"
            raise UsageError(f"{what}; give the precision fp, or the float model")
    count = sum(value.is_floating_point() for value in gm.state_dict().values())
    gm.to(dtype)  # puts other tensors in the place of those that it shares
    for node in gm.graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map_only(Tensor, lambda value: _narrowed(value, dtype), node.meta["val"])
    inputs = gm.meta[KEY]
    if isinstance(inputs, Inputs):
        gm.meta[KEY] = replace(inputs, past=tuple(replace(one, dtype=dtype) for one in inputs.past))
    return count


def _pins(value: Any, dtype: torch.dtype) -> bool:
    """Whether an argument is a dtype of floats, or a number that `dtype` does not hold"""
    if isinstance(value, float) and abs(value) != float("inf"):
        return abs(value) > torch.finfo(dtype).max
    return value in FLOATS if isinstance(value, torch.dtype) else False


def _narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
