"""customcpu's attention: each kind one operator of opswap."""

import torch
from torch import Tensor

from targets._attention import Attention, AttentionRows, BiasedAttention
from targets._disentangled import DisentangledAttention
from targets._linear import Rows


class PackedAttention(Attention):
    """Attention as opswap::attention: qkv [T, 3H], starts, keep, table, places → [T, H] of qkv's dtype"""

    def __init__(self, source: Attention) -> None:
        super().__init__(source.heads, source.scale, source.precise, source.causal)
        self.narrow = source.narrow

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None, *where: Tensor | None) -> Tensor:
        how = self.heads, self.scale, self.precise, self.causal
        y: Tensor = torch.ops.opswap.attention(qkv, starts, keep, *how, *where)
        return y.to(qkv.dtype) if self.narrow else y


class PackedBiasedAttention(BiasedAttention):
    """BiasedAttention as opswap::attention_biased: qkv [B·S, 3H], bias → [B·S, H] of qkv's dtype"""

    def __init__(self, source: BiasedAttention) -> None:
        super().__init__(source.heads, source.scale, source.precise)
        self.narrow = source.narrow

    def forward(self, qkv: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = torch.ops.opswap.attention_biased(qkv, bias, self.heads, self.scale, self.precise)
        return y.to(qkv.dtype) if self.narrow else y


class PackedAttentionRows(AttentionRows):
    """AttentionRows as opswap::attention_int8: qkv [T, 3H], starts, keep, table, places → rows [T, H]"""

    def __init__(self, source: AttentionRows) -> None:
        super().__init__(source.heads, source.scale, source.activation, source.precise, source.causal)

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None, *where: Tensor | None) -> Rows:
        return torch.ops.opswap.attention_int8(qkv, starts, keep, *self.settings(), *where)


class PackedDisentangledAttention(DisentangledAttention):
    """DisentangledAttention as opswap::attention_disentangled: qkv [T, 3H], ... → [T, H] of qkv's dtype"""

    def __init__(self, source: DisentangledAttention) -> None:
        super().__init__(source.heads, source.scale, source.precise)
        self.narrow = source.narrow

    def forward(
        self, qkv: Tensor, starts: Tensor, keep: Tensor | None, places: Tensor | None, *positions: Tensor | None
    ) -> Tensor:
        how = self.heads, self.scale, self.precise
        y: Tensor = torch.ops.opswap.attention_disentangled(qkv, starts, keep, places, *positions, *how)
        return y.to(qkv.dtype) if self.narrow else y
