"""A linear in bfloat16 inside a float32 graph: what a recipe keeps out of int8 without paying for float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bf16Linear(nn.Linear):
    """x float32 [..., K] → float32 [..., N]: x and the weight [N, K] are bfloat16, the bias is added in float32

    Here the product is PyTorch's, rounded to bfloat16; a target with a better one swaps this for its own.
    """

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source.in_features, source.out_features, bias=source.bias is not None, device="meta")
        self.weight = nn.Parameter(source.weight.detach().to(torch.bfloat16), requires_grad=False)
        if source.bias is not None:
            self.bias = nn.Parameter(source.bias.detach().to(torch.float32), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x.to(torch.bfloat16), self.weight).to(torch.float32)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dtype={self.weight.dtype}"
