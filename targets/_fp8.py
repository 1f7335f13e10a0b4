"""The FP8 linear, for targets that have a precision fp8: QuantizedLinear with other numbers; slow, but anywhere.

As it stands its numbers are the OCP's E4M3, and its scales any float32; hpu makes one with Gaudi's of both.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from operators.fp8 import linear_fp8, quantize_fp8, quantize_weight_fp8
from operators.validate import require
from targets._linear import Activation, QuantizedLinear


@dataclass(frozen=True)
class Fp8Activation(Activation):
    """Rows of E4M3, each by its own range; the levels of int8 that it inherits mean nothing. Raises ValueError for a
    rotation: its bytes are those of the rows as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.rotation, "Fp8Activation: rotation must be 0", self.rotation, "quantize to int")

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return quantize_fp8(x)


class Fp8Linear(QuantizedLinear):
    """weight float8_e4m3fn [N, K], scale float32 [N], bias float32 [N] or None; weight_sum is zeros"""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, activation: Activation) -> None:
        nn.Module.__init__(self)
        self.activation = activation
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("weight_sum", torch.zeros_like(scale, dtype=torch.int32))
        self.register_buffer("bias", bias)

    @classmethod
    def from_linear(cls, linear: nn.Linear, activation: Activation = Fp8Activation()) -> Self:
        """Raises ValueError when the weight is not finite."""
        bias = None if linear.bias is None else linear.bias.detach().to(torch.float32)
        return cls(*quantize_weight_fp8(linear.weight), bias, activation)

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        return self.multiply(self.activation.quantize(x)).view(*x.shape[:-1], self.out_features)

    def multiply(self, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """rows [T, K] of FP8 → float32 [T, N]"""
        return linear_fp8(*rows[:2], self.weight, self.scale, self.bias)
