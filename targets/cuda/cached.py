"""Attention to earlier tokens, whose keys and values grow in place, by PyTorch: any number of new tokens, or a step
that can be captured."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from operators.attention_cached import looks_at, split
from targets._attention import CachedAttention
from targets._cached import attend
from targets._room import Room

REACH = 128  # tokens: what a step's attention reaches, and the rooms, are multiples of it


@dataclass
class Step:
    """What all of a graph's attentions know of the call that runs now: `at`, int64 [1] on the device, the place of the
    one new token of a step in the rooms, as it is captured; None: a call of any other kind."""

    at: Tensor | None = None


class CudaCachedAttention(nn.Module):
    """CachedAttention, y of `dtype` (None: of qkv's), computed in what keys and values are kept in

    In a step past_key and past_value are the whole rooms [B, shared, C, d], the new token is written to the place `at`,
    and mask [B, R] says which of the first R tokens may be looked at. Then no size depends on how many tokens there
    are, and nothing waits for the GPU. What is where no token is yet is read, with a weight of 0: it must be finite.
    """

    grows = True
    dtype: torch.dtype | None = None

    def __init__(self, source: CachedAttention, step: Step) -> None:
        super().__init__()
        self.heads, self.scale, self.kept, self.precise = source.heads, source.scale, source.kept, source.precise
        self.window = source.window
        self.step, self.room = step, Room(REACH, cleared=True)

    def forward(self, qkv: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split(qkv.to(self.kept), past_key.shape[0], past_key.shape[1], self.heads)
        if self.step.at is not None:
            for room, part in ((past_key, k), (past_value, v)):
                room.index_copy_(2, self.step.at, part)
            keys, values, looks = past_key, past_value, mask[:, None]
            if self.window is not None:
                looks = looks & (torch.arange(mask.shape[1], device=mask.device) > self.step.at - self.window)
        else:
            past, new = past_key.shape[2], q.shape[2]
            rooms = self.room.extend(past_key, past_value, new)
            keys, values = (room.narrow(2, 0, past + new) for room in rooms)
            keys[:, :, past:], values[:, :, past:] = k, v
            looks = looks_at(mask, new, self.window)
        return attend(q, keys, values, looks, self.scale).to(self.dtype or qkv.dtype), keys, values

    def extra_repr(self) -> str:
        how = f"heads={self.heads}, scale={self.scale}, kept={self.kept}"
        return how if self.window is None else f"{how}, window={self.window}"
