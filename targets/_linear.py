"""The quantized linear that every target is given, and the swap that puts the target's own in its place."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, fx, nn

from operators import quantize_weight, reference
from operators import weight_sum as sum_weight


class QuantizedLinear(nn.Module):
    """A linear layer in int8, with no target yet: its forward is the reference arithmetic, so it runs
    anywhere, slowly.

    weight int8 [N, K], scale float32 [N], weight_sum int32 [N], bias float32 [N] or None. symmetric: the way
    in which a row of activations is quantized.
    """

    weight: Tensor
    scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("weight_sum", sum_weight(weight))
        self.register_buffer("bias", bias)

    @classmethod
    def from_linear(cls, linear: nn.Linear, symmetric: bool) -> Self:
        """Raises ValueError when the weight is not finite."""
        weight, scale = quantize_weight(linear.weight)
        bias = None if linear.bias is None else linear.bias.detach().to(torch.float32)
        return cls(weight, scale, bias, symmetric)

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        packed = reference.pack_weight(self.weight)
        return reference.linear_int8(x, packed, self.weight_sum, self.scale, self.bias, self.symmetric)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, symmetric={self.symmetric}"


def swap(graph: fx.GraphModule, make: Callable[[QuantizedLinear], nn.Module]) -> int:
    """Replaces each QuantizedLinear by make(it) under the same name. → how many, by unique name"""
    found = [(name, module) for name, module in graph.named_modules() if isinstance(module, QuantizedLinear)]
    for name, module in found:
        graph.set_submodule(name, make(module).eval())
    return len(found)


def leave(graph: fx.GraphModule, recipe: object) -> None:
    """The lowering of a precision that has no operators of its own: the graph runs as it is."""
