"""Attention to earlier tokens, whose keys and values grow in place: customcpu's, and PyTorch's for any target."""

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.attention_cached import looks_at, split
from targets._attention import CachedAttention
from targets._room import Room


class PackedCachedAttention(CachedAttention):
    """CachedAttention as opswap::attention_cached; where several new tokens reach beyond a window, as
    opswap::attention_biased, or by PyTorch if they follow earlier ones"""

    def __init__(self, source: CachedAttention) -> None:
        super().__init__(source.heads, source.scale, source.precise, source.kept, source.window)
        self.room = Room()

    def forward(self, qkv: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.compiler.is_compiling():  # memory that grows is nothing for a graph
            return super().forward(qkv, past_key, past_value, mask)
        past, new = past_key.shape[2], qkv.shape[0] // past_key.shape[0]
        keys, values = self.room.extend(past_key, past_value, new)
        whole = past + new
        beyond = max(0, whole - self.window) if self.window is not None else 0
        if beyond and new > 1:
            y = self._in_window(qkv, keys, values, past, mask)
        else:
            mask = mask if mask.dtype in (torch.int64, torch.bool) else mask != 0
            if beyond:  # as padding is
                mask = torch.cat([torch.zeros_like(mask[:, :beyond]), mask[:, beyond:]], 1)
            how = (self.heads, self.scale, self.precise)
            y = torch.ops.opswap.attention_cached(qkv, keys, values, past, mask, *how)
        return y.to(qkv.dtype), keys.narrow(2, 0, whole), values.narrow(2, 0, whole)

    def _in_window(self, qkv: Tensor, keys: Tensor, values: Tensor, past: int, mask: Tensor) -> Tensor:
        q, k, v = split(qkv, keys.shape[0], keys.shape[1], self.heads)
        whole = past + q.shape[2]
        keys[:, :, past:whole], values[:, :, past:whole] = k, v
        looks = looks_at(mask, q.shape[2], self.window)
        if past:
            return attend(q.to(keys.dtype), keys, values, looks, self.scale)
        seen = looks.any(2)[..., None]  # who may look at none looks at all, and is not kept
        bias = torch.zeros(looks.shape).masked_fill_(~looks & seen, -torch.inf)[:, None]
        k, v = (part.repeat_interleave(self.heads // part.shape[1], 1) for part in (k, v))
        rows = torch.cat([q, k, v], 1).transpose(1, 2).reshape(len(qkv), -1)
        y = torch.ops.opswap.attention_biased(rows, bias, self.heads, self.scale, self.precise)
        return y.masked_fill_(~seen.flatten(0, 1), 0)


def attend(q: Tensor, keys: Tensor, values: Tensor, looks: Tensor, scale: float) -> Tensor:
    """q [B, heads, S, d], keys and values [B, shared, C, d], looks bool [B, S, R], R ≤ C: at which of the first R each
    may look → [B·S, heads·d], zeros where it may look at none"""
    seen = looks.any(2)[..., None]  # who may look at none looks at all, and is not kept
    keys, values = (part[:, :, : looks.shape[2]] for part in (keys, values))
    mask, fewer = (looks | ~seen)[:, None], keys.shape[1] < q.shape[1]
    y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale, enable_gqa=fewer)
    return y.transpose(1, 2).flatten(2).masked_fill(~seen, 0).flatten(0, 1)
