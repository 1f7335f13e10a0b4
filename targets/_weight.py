"""A linear with int8 weights and float activations: for few rows, where reading the weights takes the time."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators import quantize_weight

PIECE = 512  # rows of a large weight that are made float at a time: they stay in a core's cache
LARGE = 16384  # rows


class WeightLinear(nn.Module):
    """x floating [..., K] → [..., N] of x's dtype: (x · weightᵀ) · scale + bias, here in plain PyTorch

    weight int8 [N, K], scale float32 [N], bias float32 [N] or None. A target with a better product swaps this.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """Raises ValueError when the weight is not finite."""
        bias = None if linear.bias is None else linear.bias.detach().to(torch.float32)
        return cls(*quantize_weight(linear.weight), bias)

    def forward(self, x: Tensor) -> Tensor:
        pieces = self.weight.split(PIECE) if self.out_features > LARGE else (self.weight,)
        y = torch.cat([F.linear(x, piece.to(x.dtype)) for piece in pieces], -1) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, weight=int8"
