"""Activations and weights as the integers will see them, in float: what the searches measure their error with."""

from typing import Protocol

from torch import Tensor

from operators import quantize_weight
from operators.reference import safe_scale


class How(Protocol):
    """Of a recipe, or of one of its layers."""

    @property
    def scheme(self) -> str: ...
    @property
    def symmetric(self) -> bool: ...
    @property
    def activation_bits(self) -> int: ...
    @property
    def weight_bits(self) -> int: ...


def rounded(x: Tensor, how: How) -> Tensor:
    """x float32 [T, K] → the same, through 8 bits and back: one range a row, or for all of x in the scheme static; as
    the sum of two such for 16 bits; unchanged in the scheme weight"""
    if how.scheme == "weight":
        return x
    low = _once(x, (1,) if how.scheme == "dynamic" else (0, 1), how.symmetric)
    return low if how.activation_bits == 8 else low + _once(x - low, (1,), True)


def rounded_weight(weight: Tensor, how: How) -> Tensor:
    """weight floating [N, K] → float32 [N, K], through int8 and back, or through two for 16 bits"""
    q, scale = quantize_weight(weight)
    low = q.float() * scale[:, None]
    if how.weight_bits == 8:
        return low
    q, scale = quantize_weight(weight - low)
    return low + q.float() * scale[:, None]


def _once(x: Tensor, dims: tuple[int, ...], symmetric: bool) -> Tensor:
    if symmetric:
        scale = safe_scale(x.abs().amax(dims, keepdim=True), 127)
        return (x / scale).round() * scale
    low, high = x.amin(dims, keepdim=True).clamp(max=0), x.amax(dims, keepdim=True).clamp(min=0)
    scale = safe_scale(high - low, 255)
    zero = (-low / scale).round()
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale
