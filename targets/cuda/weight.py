"""cuda's linears with int8 weights and float activations."""

from torch import Tensor, nn

from operators.triton.weight_only import Weight, linear_w8
from targets._weight import WeightLinear


class CudaWeightLinear(nn.Module):
    """WeightLinear: x [..., K] of any float type → [..., N] of x's"""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, source: WeightLinear) -> None:
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.register_buffer("weight", source.weight.contiguous())
        self.register_buffer("scale", source.scale)
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = linear_w8(x.reshape(-1, self.in_features), Weight(self.weight, self.scale, self.bias))
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, weight=int8"
