"""Random quantized linears, and the integers computed a second way."""

from dataclasses import dataclass

import torch
from torch import Tensor

from operators import quantize_weight, weight_sum

ops = torch.ops.opswap


@dataclass(frozen=True)
class Linear:
    """Arguments of linear_int8 after x."""

    packed: Tensor
    weight_sum: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def args(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        return self.packed, self.weight_sum, self.weight_scale, self.bias


def linear(n: int, k: int, bias: bool = True, seed: int = 0) -> Linear:
    g = torch.Generator().manual_seed(seed)
    q, scale = quantize_weight(torch.randn(n, k, generator=g))
    return Linear(ops.pack_weight(q), weight_sum(q), scale, torch.randn(n, generator=g) if bias else None)


def integers(m: int, n: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """q uint8 [m, k], zero_point int32 [m], weight int8 [n, k], all over their whole range."""
    g = torch.Generator().manual_seed(seed)
    q = torch.randint(0, 256, (m, k), generator=g, dtype=torch.uint8)
    zero = torch.randint(0, 256, (m,), generator=g, dtype=torch.int32)
    return q, zero, torch.randint(-127, 128, (n, k), generator=g, dtype=torch.int8)


def exact(q: Tensor, zero: Tensor, weight: Tensor) -> Tensor:
    """The accumulators in int64, straight from the definition, as int32 [m, n]."""
    acc = (q.long() - zero.long()[:, None]) @ weight.long().t()
    assert int(acc.abs().max() if acc.numel() else 0) < 2**31
    return acc.int()


def matmul(q: Tensor, zero: Tensor, weight: Tensor) -> Tensor:
    return ops.int8_matmul(q, zero, ops.pack_weight(weight), weight_sum(weight))
