"""Linears made of others' outputs: those of several side by side, or one's own in another order."""

from typing import Any

import torch
from torch import Tensor, nn

from targets._bf16 import Bf16Linear
from targets._fp8 import Fp8Linear
from targets._linear import QuantizedLinear, float_linear
from targets._weight import WeightLinear

STACKABLE = (QuantizedLinear, Fp8Linear, WeightLinear, nn.Linear, Bf16Linear)


def stack(parts: list[Any]) -> nn.Module:
    """Linears of one input and one kind → one with their outputs side by side; a bias that is missing is zeros."""
    bias: Tensor | None = None
    if any(part.bias is not None for part in parts):
        dtype = next(part.bias.dtype for part in parts if part.bias is not None)
        biases = (_zeros(part, dtype) if part.bias is None else part.bias for part in parts)
        bias = torch.cat(tuple(biases))
    scale = torch.cat([part.scale for part in parts]) if hasattr(parts[0], "scale") else None
    return _made(parts[0], torch.cat([part.weight for part in parts]), scale, bias)


def picked(linear: Any, outputs: Tensor) -> nn.Module:
    """→ a linear of the same kind, whose outputs are those of `linear` that `outputs`, int64, names, in its order"""
    scale, bias = (None if one is None else one[outputs] for one in (getattr(linear, "scale", None), linear.bias))
    return _made(linear, linear.weight[outputs], scale, bias)


def _made(like: Any, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> nn.Module:
    if isinstance(like, QuantizedLinear):
        return type(like)(weight, scale, bias, like.activation)  # type: ignore[arg-type]
    if isinstance(like, WeightLinear):
        return WeightLinear(weight, scale, bias)  # type: ignore[arg-type]
    linear = float_linear(weight, bias)
    return Bf16Linear(linear) if isinstance(like, Bf16Linear) else linear


def _zeros(part: Any, dtype: torch.dtype) -> Tensor:
    """→ the bias of a linear that has none"""
    return part.weight.new_zeros(part.out_features, dtype=dtype)  # type: ignore[no-any-return]
