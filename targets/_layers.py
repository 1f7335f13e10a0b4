"""customcpu's modules of more than one linear: a layer's feed-forward part, and all layers, each one operator."""

from typing import Any

import torch
from torch import Tensor, nn

from operators.feed_forward import pack_layer
from targets._fused import FeedForward, Layers
from targets._linear import Rows
from targets._packed import PackedRowsLinear, PackedRowsLinearAddNorm, PackedRowsLinearGelu, norm_of

Made = Tensor | tuple[Tensor, Rows] | tuple[Tensor, Tensor]

NOTHING = (None,) * 4  # the weights of no linear


class PackedFeedForward(nn.Module):
    """FeedForward as opswap::feed_forward_int8: rows [T, K], residual [T, N] → y, (y, rows) or (y, float32 [T, P])"""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        first, second = PackedRowsLinearAddNorm(source.first), PackedRowsLinearAddNorm(source.second)
        wide = PackedRowsLinearGelu(source.wide)
        then = NOTHING if source.then is None else PackedRowsLinear(source.then).weights
        gamma, beta, eps, _, *ways = norm_of(first)
        norm = (gamma, beta, eps, *ways)
        whole = (*first.linear.weights, *norm, *wide.weights, *wide.made, *second.linear.weights, *norm_of(second))
        self.register_buffer("layer", pack_layer((*whole, *then)))
        self.then = 0 if source.then is None else source.then.linear.out_features
        self.quantize = second.activation is not None and not self.then

    def forward(self, rows: Rows, residual: Tensor) -> Made:
        layer = self._buffers["layer"]
        return self.results(torch.ops.opswap.feed_forward_int8(*rows, residual, layer, self.quantize, self.then))

    def results(self, made: tuple[Tensor, ...]) -> Made:
        """made: what the operator gives → of it, what FeedForward does"""
        y, q, scale, zero_point, z = made
        if self.then:
            return y, z
        return (y, (q, scale, zero_point)) if self.quantize else y

    def extra_repr(self) -> str:
        return f"quantize={self.quantize}, then={self.then}"


class PackedLayers(nn.Module):
    """Layers as opswap::layers_int8: qkv [T, 3H], residual [T, N], starts, keep, table, places → what its last
    FeedForward gives; it is used up"""

    def __init__(self, source: Layers) -> None:
        super().__init__()
        settings = [attention.settings() for attention in source.attentions]  # type: ignore[operator]
        heads, scale, symmetric, _, _, rotation, precise, causal = settings[0]
        fixed_scales, fixed_zeros = [each[3] for each in settings], [each[4] for each in settings]
        self.how: tuple[Any, ...] = (heads, scale, symmetric, fixed_scales, fixed_zeros, rotation, precise, causal)
        self.parts = nn.ModuleList()
        while source.feed_forwards:  # each is dropped as it is packed: weights are not held twice
            self.parts.append(PackedFeedForward(source.feed_forwards.pop(0)))  # type: ignore[arg-type]

    def forward(
        self, qkv: Tensor, residual: Tensor, starts: Tensor, keep: Tensor | None, *where: Tensor | None
    ) -> Made:
        last: Any = self.parts[-1]
        layers = [part._buffers["layer"] for part in self.parts]
        ways = layers, last.quantize, last.then
        return last.results(torch.ops.opswap.layers_int8(qkv, residual, starts, keep, *self.how, *ways, *where))
