"""A linear layer in Gaudi's FP8: emulated on bytes, or by the card's own operators."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from operators.e4m3 import CHIPS, Chip
from operators.fp8 import FP8
from operators.gaudi import MAX_K
from operators.weights import WeightError, finite_weight
from targets._fp8 import Fp8Activation, Fp8Linear
from targets.base import Recipe
from targets.hpu.scales import ACTIVATION, WEIGHT, scale_of

Rows = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Gaudi:
    """The two operators of a chip's FP8, emulated: opswap::fp8_cast and opswap::fp8_gemm on bytes"""

    chip: Chip

    def cast(self, x: Tensor, scale: Tensor) -> Tensor:
        """x / scale, which is float32 and broadcasts to it → FP8"""
        return torch.ops.opswap.fp8_cast(x, scale.reciprocal(), chip=self.chip.name)[0]

    def gemm(self, q: Tensor, scale: Tensor, linear: Fp8Linear) -> Tensor:
        """q [M, K] of FP8, scale [M, 1] → float32 [M, N]"""
        return torch.ops.opswap.fp8_gemm(*self._given(q, scale, linear), chip=self.chip.name)

    def _given(self, q: Tensor, scale: Tensor, linear: Fp8Linear) -> tuple[Any, ...]:
        return q, False, linear.weight, True, None, torch.float32, scale, linear.scale, linear.bias, False


class Card(Gaudi):
    """The same by torch.ops.hpu: the card's own casts and sums"""

    def cast(self, x: Tensor, scale: Tensor) -> Tensor:
        # PyTorch's name of the dtype, whichever chip it is
        return torch.ops.hpu.cast_to_fp8_v2(x, scale.reciprocal(), False, False, FP8)[0]

    def gemm(self, q: Tensor, scale: Tensor, linear: Fp8Linear) -> Tensor:
        return torch.ops.hpu.fp8_gemm_v2(*self._given(q, scale, linear))


@dataclass(frozen=True)
class GaudiActivation(Fp8Activation):
    """Rows of FP8 by `gaudi`, each by its own scale"""

    gaudi: Gaudi = Gaudi(CHIPS["gaudi2"])

    def quantize(self, x: Tensor) -> Rows:
        rows = x.reshape(-1, x.shape[-1])
        scale = scale_of(rows.to(torch.float32), self.gaudi.chip, ACTIVATION)
        return self.gaudi.cast(rows, scale), scale.flatten(), torch.zeros_like(scale, dtype=torch.int32).flatten()


class GaudiLinear(Fp8Linear):
    """Fp8Linear with a chip's numbers: x float32 [..., K] → float32 [..., N]

    weight [N, K], bit patterns of the chip's E4M3 (uint8; on a card its own dtype); scale float32 [N], powers of two.
    """

    def __init__(self, source: nn.Linear, gaudi: Gaudi, device: torch.device | None = None) -> None:
        """Raises WeightError when the weight is not finite."""
        weight, _ = finite_weight("GaudiLinear", source.weight)
        scale = scale_of(weight, gaudi.chip, WEIGHT).to(device)
        bias = None if source.bias is None else source.bias.detach().to(device, torch.float32)
        super().__init__(gaudi.cast(weight.to(device), scale), scale.flatten(), bias, GaudiActivation(gaudi=gaudi))
        self.gaudi = gaudi

    def multiply(self, rows: Rows) -> Tensor:
        q, scale, _ = rows
        return self.gaudi.gemm(q, scale[:, None], self)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.gaudi}"


def why_not_fp8(linear: nn.Linear) -> str | None:
    """→ why a chip's operator does not take `linear`, None if it does"""
    if linear.in_features > MAX_K:
        return f"sums of at most {MAX_K} products are exact; it has {linear.in_features}"
    return None if linear.in_features and linear.out_features else "it is empty"


def to_fp8(graph: fx.GraphModule, recipe: Recipe, chip: str, device: torch.device | None) -> int:
    """nn.Linear → GaudiLinear under the same name, on a card by its own operators, unless the recipe keeps it or
    the operator does not take it. → how many. Raises WeightError, with the layer's name, for a weight that is not
    finite."""
    gaudi = Card(CHIPS[chip]) if device else Gaudi(CHIPS[chip])
    found = [(name, module) for name, module in graph.named_modules() if type(module) is nn.Linear]
    found = [(name, module) for name, module in found if not (recipe.layer(name).why or why_not_fp8(module))]
    for name, module in found:
        try:
            graph.set_submodule(name, GaudiLinear(module, gaudi, device).eval())
        except WeightError as error:
            raise WeightError(f"linear {name} cannot be quantized: {error}") from error
    return len(found)
