"""The quantized linear that every target is given, how its rows become bytes, and the base of the targets' own."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from operators import quantize_weight, reference
from operators import weight_sum as sum_weight
from operators.validate import check_levels, require

MIDDLE = 128  # of the unsigned bytes

# (q uint8 [T, K], scale float32 [T], zero_point int32 [T]), that opswap::quantize_per_token returns, for T tokens; it
# is one value of the fused graph
Rows = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Activation:
    """How rows of activations become bytes: each by its own range (scale None), or all by one that was calibrated.

    symmetric: levels 1..255 around the middle, else 0..255 around zero_point. rotation: of what reference.rotated makes
    of the rows, by blocks of so many. Raises ValueError for a scale that is no normal float32 above 0, a zero point
    that is no level, or not the middle where symmetric, and a rotation that is none of ROTATIONS.
    """

    symmetric: bool = True
    scale: float | None = None
    zero_point: int = MIDDLE
    rotation: int = 0

    def __post_init__(self) -> None:
        require(self.scale != 0, "Activation: scale must be above 0", self.scale, "leave it out for per token")
        check_levels("Activation", *self.levels())
        middle = not self.symmetric or self.zero_point == MIDDLE
        require(middle, f"Activation: symmetric wants the zero point {MIDDLE}", self.zero_point, "make it asymmetric")

    def levels(self) -> tuple[bool, float, int, int]:
        """→ symmetric, fixed_scale, fixed_zero and rotation, as every operator that quantizes takes them"""
        return self.symmetric, self.scale or 0.0, self.zero_point, self.rotation

    def quantize(self, x: Tensor) -> Rows:
        """x float32 [..., K] → rows, the leading sizes as one"""
        return torch.ops.opswap.quantize_per_token(x, *self.levels())


class QuantizedLinear(nn.Module):
    """A linear layer in int8, with no target yet: its forward is the reference arithmetic, so it runs
    anywhere, slowly.

    weight int8 [N, K], scale float32 [N], weight_sum int32 [N], bias float32 [N] or None.
    """

    weight: Tensor
    scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("weight_sum", sum_weight(weight))
        self.register_buffer("bias", bias)

    @classmethod
    def from_linear(cls, linear: nn.Linear, activation: Activation) -> Self:
        """Raises ValueError when the weight is not finite."""
        weight, scale = quantize_weight(linear.weight)
        bias = None if linear.bias is None else linear.bias.detach().to(torch.float32)
        return cls(weight, scale, bias, activation)

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        packed = reference.pack_weight(self.weight)
        return reference.linear_int8(x, packed, self.weight_sum, self.scale, self.bias, *self.activation.levels())

    def multiply(self, rows: Rows) -> Tensor:
        """rows [T, K], as its activation makes them → float32 [T, N]"""
        q, scale, zero_point = rows
        packed = torch.ops.opswap.pack_weight(self.weight)
        acc = torch.ops.opswap.int8_matmul(q, zero_point, packed, self.weight_sum)
        return reference.scaled(acc, scale, self.scale, self.bias)

    def extra_repr(self) -> str:
        return describe(self)


class TargetLinear(nn.Module):
    """What every target's own linear keeps of a QuantizedLinear; the weight it keeps in its own layout."""

    scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__()
        self.activation, self.levels = source.activation, source.activation.levels()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.register_buffer("scale", source.scale)
        self.register_buffer("weight_sum", source.weight_sum)
        self.register_buffer("bias", source.bias)

    def extra_repr(self) -> str:
        return describe(self)


def float_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight floating [N, K], bias [N] or None → the linear layer over the same memory, without gradients"""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made.eval()


def describe(linear: QuantizedLinear | TargetLinear) -> str:
    return f"in_features={linear.in_features}, out_features={linear.out_features}, {linear.activation}"


def leave(graph: object, recipe: object) -> None:
    """The lowering of a precision that has no operators of its own: the graph runs as it is."""
