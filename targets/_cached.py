"""customcpu's attention to earlier tokens, whose keys and values grow in place."""

import torch
from torch import Tensor

from targets._attention import CachedAttention
from targets._room import Room


class PackedCachedAttention(CachedAttention):
    """CachedAttention as opswap::attention_cached"""

    def __init__(self, source: CachedAttention) -> None:
        super().__init__(source.heads, source.scale, source.precise, source.kept)
        self.room = Room()

    def forward(self, qkv: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.compiler.is_compiling():  # memory that grows is nothing for a graph
            return super().forward(qkv, past_key, past_value, mask)
        past, new = past_key.shape[2], qkv.shape[0] // past_key.shape[0]
        keys, values = self.room.extend(past_key, past_value, new)
        mask = mask if mask.dtype in (torch.int64, torch.bool) else mask != 0
        how = (self.heads, self.scale, self.precise)
        y = torch.ops.opswap.attention_cached(qkv, keys, values, past, mask, *how)
        return y.to(qkv.dtype), keys.narrow(2, 0, past + new), values.narrow(2, 0, past + new)
