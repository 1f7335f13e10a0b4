"""A linear layer in Gaudi's FP8: emulated on bytes, or by the card's own operators."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from operators.e4m3 import CHIPS, Chip
from targets.base import Recipe
from targets.hpu.scales import ACTIVATION, WEIGHT, scale_of

E4M3 = torch.float8_e4m3fn  # what PyTorch calls the dtype on the card, whichever chip it is


class Fp8Linear(nn.Module):
    """x float32 [..., K] → float32 [..., N]: opswap::fp8_cast by each token's scale, then opswap::fp8_gemm

    weight uint8 [N, K], the bit patterns of the chip's E4M3; scale float32 [N], powers of two.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Linear, chip: Chip) -> None:
        super().__init__()
        self.in_features, self.out_features, self.chip = source.in_features, source.out_features, chip
        weight = source.weight.detach().to(torch.float32)
        scale = scale_of(weight, chip, WEIGHT)
        codes, _ = torch.ops.opswap.fp8_cast(weight, scale.reciprocal(), chip=chip.name)
        self.register_buffer("weight", codes)
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("bias", None if source.bias is None else source.bias.detach().to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        rows, name = x.reshape(-1, self.in_features), self.chip.name
        scale = scale_of(rows, self.chip, ACTIVATION)
        q, _ = torch.ops.opswap.fp8_cast(rows, scale.reciprocal(), chip=name)
        y = torch.ops.opswap.fp8_gemm(
            q, False, self.weight, True, None, torch.float32, scale, self.scale, self.bias, chip=name
        )
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.chip.name}"


class CardFp8Linear(nn.Module):
    """Fp8Linear by torch.ops.hpu: the same scales, the card's own casts and sums; its weight lies on the card."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Linear, chip: Chip, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features, self.chip = source.in_features, source.out_features, chip
        weight = source.weight.detach().to(torch.float32)
        scale = scale_of(weight, chip, WEIGHT).to(device)
        self.register_buffer("weight", card_cast(weight.to(device), scale))
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("bias", None if source.bias is None else source.bias.detach().to(device, torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        scale = scale_of(rows.to(torch.float32), self.chip, ACTIVATION)
        y = torch.ops.hpu.fp8_gemm_v2(
            card_cast(rows, scale), False, self.weight, True, None, torch.float32, scale, self.scale, self.bias, False
        )
        return y.view(*x.shape[:-1], self.out_features)


def card_cast(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale as FP8 on the card"""
    return torch.ops.hpu.cast_to_fp8_v2(x, scale.reciprocal(), False, False, E4M3)[0]


def to_fp8(graph: fx.GraphModule, recipe: Recipe, chip: str, device: torch.device | None) -> int:
    """nn.Linear → Fp8Linear, or on a card CardFp8Linear, under the same name, unless the recipe keeps it. → how many"""
    found = [(name, module) for name, module in graph.named_modules() if type(module) is nn.Linear]
    found = [(name, module) for name, module in found if recipe.layer(name).why is None]
    for name, module in found:
        swapped: Any = CardFp8Linear(module, CHIPS[chip], device) if device else Fp8Linear(module, CHIPS[chip])
        graph.set_submodule(name, swapped.eval())
    return len(found)
