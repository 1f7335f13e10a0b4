"""customcpu's modules: each one operator of opswap, over weights packed once. Buffers are taken from where nn.Module
holds them: with a few tokens, asking it for each would take as long as the arithmetic.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from targets._attention import Attention, AttentionRows, BiasedAttention, CachedAttention
from targets._cached import PackedCachedAttention
from targets._disentangled import DisentangledAttention
from targets._fused import EmbedNorm, NormRows, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import QuantizedLinear, Rows, TargetLinear
from targets._packed_attention import (
    PackedAttention,
    PackedAttentionRows,
    PackedBiasedAttention,
    PackedDisentangledAttention,
)
from targets._pages import let_go


class PackedLinear(TargetLinear):
    """QuantizedLinear as opswap::linear_int8: x float32 [..., K] → float32 [..., N]"""

    packed: Tensor

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__(source)
        self.register_buffer("packed", torch.ops.opswap.pack_weight(source.weight))
        let_go(source.weight)

    @property
    def weights(self) -> tuple[Tensor | None, ...]:
        """packed, weight_sum, scale and bias, as every operator on this layer takes them after the rows"""
        held = self._buffers
        return held["packed"], held["weight_sum"], held["scale"], held["bias"]

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.opswap.linear_int8(x, *self.weights, *self.levels)


class PackedRowsLinear(PackedLinear):
    """RowsLinear as opswap::linear_int8_rows: rows [T, K] → float32 [T, N]"""

    def __init__(self, source: RowsLinear) -> None:
        super().__init__(source.linear)

    def forward(self, rows: Rows) -> Tensor:  # type: ignore[override]
        return torch.ops.opswap.linear_int8_rows(*rows, *self.weights)


class PackedRowsLinearGelu(PackedLinear):
    """RowsLinearGelu as opswap::linear_int8_gelu: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGelu) -> None:
        super().__init__(source.linear)
        # of the rows that come out; self.levels are of those that come in
        self.made = (*source.levels, source.by_tanh)

    def forward(self, rows: Rows) -> Rows:  # type: ignore[override]
        return torch.ops.opswap.linear_int8_gelu(*rows, *self.weights, *self.made)


class PackedRowsLinearGate(PackedLinear):
    """RowsLinearGate as opswap::linear_int8_gate: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGate) -> None:
        super().__init__(source.linear)
        self.made = (source.gate.act, source.gate.second, *source.levels)

    def forward(self, rows: Rows) -> Rows:  # type: ignore[override]
        return torch.ops.opswap.linear_int8_gate(*rows, *self.weights, *self.made)


class PackedGate(Gate):
    """Gate as opswap::gate: x float32 or bfloat16 [..., 2N] → [..., N]"""

    def __init__(self, source: Gate) -> None:
        super().__init__(source.act, source.second)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.opswap.gate(x, self.act, self.second)


class PackedNorm(NormRows):
    """NormRows as opswap::norm_rows: x, residual float32 [T, N] → y, or with an activation (y, rows of y)"""

    def __init__(self, source: NormRows) -> None:
        super().__init__(*source.parts())

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Rows]:
        y, *rows = torch.ops.opswap.norm_rows(x, *norm_of(self), residual=residual)
        return y if self.activation is None else (y, tuple(rows))


def norm_of(module: NormRows) -> tuple[Any, ...]:
    """→ gamma, beta, eps, quantize, levels, smooth, keeps_sum and rms, as every operator that normalizes takes them"""
    held, quantize = module._buffers, module.activation is not None
    smooth = held["smooth_scale"], held["smooth_shift"]
    return held["gamma"], held["beta"], module.eps, quantize, *module.levels, *smooth, module.keeps_sum, module.rms


class PackedEmbedNorm(EmbedNorm):
    """EmbedNorm as opswap::embed_norm: ids int64 or int32 [T] for each → y, or with an activation (y, rows of y)"""

    def __init__(self, source: EmbedNorm) -> None:
        super().__init__(source.tables(), source)

    def forward(self, *ids: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        pairs = [part for pair in zip(ids, self.tables(), strict=True) for part in pair]
        missing = [None] * (6 - len(pairs))
        y, *rows = torch.ops.opswap.embed_norm(*pairs, *missing, *norm_of(self))
        return y if self.activation is None else (y, tuple(rows))


class PackedRowsLinearAddNorm(PackedNorm):
    """RowsLinearAddNorm as opswap::linear_int8_add_norm: rows [T, K], residual [T, N] → y, or (y, rows of y)"""

    def __init__(self, source: RowsLinearAddNorm) -> None:
        super().__init__(source)
        self.linear = PackedLinear(source.linear)

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        y, *out = torch.ops.opswap.linear_int8_add_norm(*rows, *self.linear.weights, residual, *norm_of(self))
        return y if self.activation is None else (y, tuple(out))


MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    QuantizedLinear: PackedLinear,
    RowsLinear: PackedRowsLinear,
    RowsLinearGelu: PackedRowsLinearGelu,
    Gate: PackedGate,
    RowsLinearGate: PackedRowsLinearGate,
    NormRows: PackedNorm,
    EmbedNorm: PackedEmbedNorm,
    RowsLinearAddNorm: PackedRowsLinearAddNorm,
    Attention: PackedAttention,
    AttentionRows: PackedAttentionRows,
    BiasedAttention: PackedBiasedAttention,
    DisentangledAttention: PackedDisentangledAttention,
    CachedAttention: PackedCachedAttention,
}

# fusions that have their operators here; customcpu has more: targets/_layers.py
FUSIONS = (
    "gelu_steps", "norm_steps", "attention_steps", "thirds", "rotation", "constants", "rotary", "attention", "heads",
    "biased", "cached", "disentangled", "qkv", "gate", "rows", "packing", "quantize", "gelu", "gate_rows",
    "add_norm", "embeddings", "lookups", "attention_rows", "per_size",
)  # fmt: skip
