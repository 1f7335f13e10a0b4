"""Inputs of linears turned by blocks of channels, so that what one channel has too much of is spread over its block."""

import torch
from torch import Tensor, nn

from operators import reference
from operators.validate import ROTATIONS

LEAST = 8  # a smaller block spreads too little


def block_of(columns: int) -> int:
    """→ the largest of ROTATIONS that divides `columns`, 0 where that is below LEAST"""
    return next((block for block in reversed(ROTATIONS[1:]) if block >= LEAST and columns % block == 0), 0)


def counter_rotated(weight: Tensor, block: int) -> Tensor:
    """weight floating [N, K] → W' float32 [N, K] with (x·H)·W'ᵀ = x·Wᵀ: W·H / block, computed in float64"""
    return (reference.rotated(weight.double(), block) / block).float()


# an operator, so that a quantizer that knows nothing of it leaves it as it is
@torch.library.custom_op("opswap_reference::rotated", mutates_args=())
def rotated(x: Tensor, block: int) -> Tensor:
    """Rotated's forward, in the order of the operators' sums"""
    return reference.rotated(x, block)


@rotated.register_fake
def _fake_rotated(x: Tensor, block: int) -> Tensor:
    return torch.empty_like(x)


ROTATED = torch.ops.opswap_reference.rotated.default


class Rotated(nn.Module):
    """x float [..., K] → x·H, the H of operators.reference.rotated for blocks that divide K; of x's dtype

    As one product with H: float sums in another order than the operators', for graphs in which it is not fused.
    """

    h: Tensor

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("h", reference.rotated(torch.eye(block), block), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, self.block)) @ self.h.to(x.dtype)).flatten(-2)

    def extra_repr(self) -> str:
        return f"block={self.block}"
