"""customcpu's attention to earlier tokens: their keys and values grow in place, where a copy each time would cost more
than the attention."""

import threading

import torch
from torch import Tensor

from targets._attention import CachedAttention

LEAST = 64  # tokens that there is room for at least


class Room:
    """Memory for a cache that is a few tokens longer at every call. What was returned earlier never changes, and a
    cache that is continued twice is copied; who writes to one writes to all that were returned, which share memory. It
    holds the last cache, with room for twice its tokens, until the next call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: tuple[Tensor, Tensor] | None = None  # [B, heads, C, d] each, C tokens at the most
        self.used = 0

    def __reduce__(self) -> tuple[type["Room"], tuple[()]]:
        return Room, ()  # copies begin empty

    def extend(self, keys: Tensor, values: Tensor, new: int) -> tuple[Tensor, Tensor]:
        """keys, values [B, heads, P, d] → [B, heads, C, d] each with these in front and room for `new` more: the memory
        they are in already, if they are what was last written to it"""
        with self.lock:
            past = keys.shape[2]
            if self.kept is None or not self._continues(keys, values, new):
                self.kept = self._copied(keys, past + new), self._copied(values, past + new)
            self.used = past + new
            return self.kept

    def _continues(self, keys: Tensor, values: Tensor, new: int) -> bool:
        kept: tuple[Tensor, Tensor] = self.kept  # type: ignore[assignment]
        past = keys.shape[2]
        same = all(_begins(whole, part) for whole, part in zip(kept, (keys, values), strict=True))
        frozen = kept[0].is_inference() and not torch.is_inference_mode_enabled()
        return same and past == self.used and past + new <= kept[0].shape[2] and not frozen

    def _copied(self, part: Tensor, tokens: int) -> Tensor:
        batch, heads, past, size = part.shape
        whole = part.new_empty(batch, heads, max(LEAST, 2 * tokens), size)
        whole[:, :, :past] = part
        return whole


def _begins(whole: Tensor, part: Tensor) -> bool:
    """Whether `part` is the first tokens of `whole`, in its memory"""
    where = part.data_ptr() == whole.data_ptr() and part.dtype == whole.dtype
    return where and part.stride() == whole.stride() and part.shape[:2] == whole.shape[:2]


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
