"""cuda's gate: one kernel, between linears that make and read floats."""

import torch
from torch import Tensor, nn

from operators.triton.gate import gate
from targets._gate import Gate


class CudaGate(nn.Module):
    """Gate: x [..., 2N] of any float type → [..., N] of `dtype` (None: of x's)"""

    def __init__(self, source: Gate, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.act, self.second, self.dtype = source.act, source.second, dtype

    def forward(self, x: Tensor) -> Tensor:
        return gate(x, self.act, self.second, self.dtype)

    def extra_repr(self) -> str:
        return f"{self.act}, second={self.second}"
