"""What the fused graph is made of: a few modules that any target can run, and may swap for its own.

Each forward is the reference, in plain torch. Rows: the tuple (q uint8 [T, K], scale float32 [T], zero_point int32
[T]) that opswap::quantize_per_token returns, for T tokens; it is one value of the graph.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from targets._linear import QuantizedLinear

Rows = tuple[Tensor, Tensor, Tensor]


class Quantize(nn.Module):
    """x float32 [..., K] → rows, the leading sizes as one"""

    def __init__(self, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric

    def forward(self, x: Tensor) -> Rows:
        return torch.ops.opswap.quantize_per_token(x, self.symmetric)

    def extra_repr(self) -> str:
        return f"symmetric={self.symmetric}"


class RowsLinear(nn.Module):
    """rows [T, K] → float32 [T, N], or bfloat16: a quantized linear on rows that are quantized already"""

    def __init__(self, linear: QuantizedLinear, bf16: bool = False) -> None:
        super().__init__()
        self.linear, self.bf16 = linear, bf16

    def forward(self, rows: Rows) -> Tensor:
        y = multiply(rows, self.linear)
        return y.to(torch.bfloat16) if self.bf16 else y


class RowsLinearGelu(nn.Module):
    """rows [T, K] → quantize(gelu(linear(rows))), rows [T, N]; the exact GELU, by erf"""

    def __init__(self, linear: QuantizedLinear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, rows: Rows) -> Rows:
        y = F.gelu(multiply(rows, self.linear))
        return torch.ops.opswap.quantize_per_token(y, self.linear.symmetric)


class NormRows(nn.Module):
    """x [T, N] → y = layer_norm(x) float32 [T, N], and with `quantize` (y, rows of y)

    gamma, beta float32 [N].
    """

    gamma: Tensor
    beta: Tensor

    def __init__(self, gamma: Tensor, beta: Tensor, eps: float, quantize: bool, symmetric: bool) -> None:
        super().__init__()
        self.eps, self.quantize, self.symmetric = eps, quantize, symmetric
        self.register_buffer("gamma", gamma.detach())
        self.register_buffer("beta", beta.detach())

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Rows]:
        y = F.layer_norm(x, (x.shape[-1],), self.gamma, self.beta, self.eps)
        return (y, torch.ops.opswap.quantize_per_token(y, self.symmetric)) if self.quantize else y

    def extra_repr(self) -> str:
        return f"{self.gamma.shape[0]}, eps={self.eps}, quantize={self.quantize}, symmetric={self.symmetric}"


class RowsLinearAddNorm(NormRows):
    """rows [T, K], residual float32 [T, N] → y = layer_norm(linear(rows) + residual), and with `quantize` (y, rows)"""

    def __init__(self, linear: QuantizedLinear, gamma: Tensor, beta: Tensor, eps: float, quantize: bool) -> None:
        super().__init__(gamma, beta, eps, quantize, linear.symmetric)
        self.linear = linear

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        return super().forward(multiply(rows, self.linear) + residual)


class Attention(nn.Module):
    """qkv [T, 3H] float32 or bfloat16, starts int32 [B + 1], keep bool [T] or None → float32 [T, H]

    qkv: query, key and value side by side, each of `heads` heads. Rows starts[b] to starts[b + 1] are one sequence,
    and its tokens look at those of its own that `keep` has (None: all): softmax(scale · query · keyᵀ) · value, zeros
    where nothing may be looked at.
    """

    def __init__(self, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None) -> Tensor:
        return attend(qkv, starts, keep, self.heads, self.scale)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}"


class AttentionRows(nn.Module):
    """Attention, then quantize: → rows [T, H]"""

    def __init__(self, heads: int, scale: float, symmetric: bool) -> None:
        super().__init__()
        self.heads, self.scale, self.symmetric = heads, scale, symmetric

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None) -> Rows:
        y = attend(qkv, starts, keep, self.heads, self.scale)
        return torch.ops.opswap.quantize_per_token(y, self.symmetric)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}, symmetric={self.symmetric}"


FUSED = (Quantize, RowsLinear, RowsLinearGelu, NormRows, RowsLinearAddNorm, Attention, AttentionRows)


def multiply(rows: Rows, linear: QuantizedLinear) -> Tensor:
    """rows [T, K] → float32 [T, N], the numbers that `linear` itself computes from them"""
    q, scale, zero_point = rows
    packed = torch.ops.opswap.pack_weight(linear.weight)
    acc = torch.ops.opswap.int8_matmul(q, zero_point, packed, linear.weight_sum)
    y = acc.to(torch.float32) * (scale[:, None] * linear.scale)
    return y if linear.bias is None else y + linear.bias


# an operator, so that a loop over sequences whose number nobody knows yet can be exported
@torch.library.custom_op("opswap_reference::attention", mutates_args=())
def attend(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float) -> Tensor:
    """Attention's forward: one sequence after another, in float32."""
    width = qkv.shape[1] // 3
    out = qkv.new_zeros((qkv.shape[0], width), dtype=torch.float32)
    for first, last in pairwise(starts.tolist()):
        query, key, value = qkv[first:last].float().view(last - first, 3, heads, width // heads).permute(1, 2, 0, 3)
        if keep is not None:
            kept = keep[first:last]
            key, value = key[:, kept], value[:, kept]
        if key.shape[1]:
            y = F.scaled_dot_product_attention(query[None], key[None], value[None], scale=scale)[0]
            out[first:last] = y.transpose(0, 1).reshape(last - first, width)
    return out


@attend.register_fake
def _fake_attend(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float) -> Tensor:
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


def swap_modules(graph: fx.GraphModule, makers: Mapping[type[nn.Module], Callable[[Any], nn.Module]]) -> int:
    """Replaces each module whose class is a key of `makers` by makers[class](it), under the same name.

    What lies inside a fused module is that module's own business and is not swapped by itself. → how many
    """
    found = [(name, module) for name, module in outermost(graph) if type(module) in makers]
    for name, module in found:
        graph.set_submodule(name, makers[type(module)](module).eval())
    return len(found)


def outermost(graph: fx.GraphModule) -> list[tuple[str, nn.Module]]:
    """→ the modules of `graph` by their names, without those inside fused modules"""
    fused = [f"{name}." for name, module in graph.named_modules() if type(module) in FUSED]
    return [(name, module) for name, module in graph.named_modules() if not name.startswith(tuple(fused))]
