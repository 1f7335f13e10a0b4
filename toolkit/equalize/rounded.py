"""Activations as the integers will see them, in float: what the searches measure their error with."""

import torch
from torch import Tensor

from operators.reference import safe_scale
from toolkit.recipe import Recipe


def rounded(x: Tensor, recipe: Recipe) -> Tensor:
    """x float32 [T, K] → the same, through 8 bits and back: one range a row, or for all of x in the scheme static"""
    dims = (1,) if recipe.scheme == "dynamic" else (0, 1)
    if recipe.symmetric:
        scale = safe_scale(x.abs().amax(dims, keepdim=True), 127)
        return (x / scale).round() * scale
    low, high = x.amin(dims, keepdim=True).clamp(max=0), x.amax(dims, keepdim=True).clamp(min=0)
    scale = safe_scale(high - low, 255)
    zero = (-low / scale).round()
    return (torch.clamp((x / scale).round() + zero, 0, 255) - zero) * scale
