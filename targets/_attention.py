"""Attention over packed heads, as the fused graph has it: modules that any target can run, and may swap for its own."""

import torch
from torch import Tensor, nn

from operators.attention import attend as attend_each
from operators.attention_biased import add_and_attend
from operators.attention_cached import over_past, split
from targets._linear import Activation, Rows


class Attention(nn.Module):
    """qkv [T, 3H] float32 or bfloat16, starts int32 [B + 1], keep bool [T] or None, and where the scores depend on
    where tokens stand, table float32 [1, heads or 1, S or 1, S] and places int64 [T] or None → [T, H] of qkv's dtype

    qkv: query, key and value side by side, each of `heads` heads. Rows starts[b] to starts[b + 1] are one sequence,
    and its tokens look at those of its own that `keep` has (None: all): softmax(scale · query · keyᵀ) · value, zeros
    where nothing may be looked at. causal: a token looks at none after it. table: is added to the scaled scores, at the
    places modulo S of query and key, None: tokens are counted from the first of their sequence. precise: a target must
    not round float32 to bfloat16 in it. narrow: qkv may be bfloat16, so that its dtype is asked for at each call.
    """

    narrow = True

    def __init__(self, heads: int, scale: float, precise: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.scale, self.precise, self.causal = heads, scale, precise, causal

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None, *where: Tensor | None) -> Tensor:
        return attend(qkv, starts, keep, self.heads, self.scale, self.causal, *where).to(qkv.dtype)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}, precise={self.precise}, causal={self.causal}"


class AttentionRows(nn.Module):
    """Attention, then quantize: → rows [T, H]"""

    def __init__(
        self, heads: int, scale: float, activation: Activation, precise: bool = False, causal: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.scale, self.precise, self.causal = heads, scale, precise, causal
        self.activation, self.levels = activation, activation.levels()

    def settings(self) -> tuple[int, float, bool, float, int, int, bool, bool]:
        """→ what opswap::attention_int8 takes from heads on"""
        return self.heads, self.scale, *self.levels, self.precise, self.causal

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None, *where: Tensor | None) -> Rows:
        return self.activation.quantize(attend(qkv, starts, keep, self.heads, self.scale, self.causal, *where))

    def extra_repr(self) -> str:
        how = f"heads={self.heads}, scale={self.scale}, precise={self.precise}, causal={self.causal}"
        return f"{how}, {self.activation}"


class BiasedAttention(nn.Module):
    """qkv [B·S, 3H] float32 or bfloat16, bias float32 [B or 1, heads or 1, S or 1, S] → [B·S, H] of qkv's dtype

    softmax(scale · query · keyᵀ + bias) · value, of sequences of one length, all with their padding; bias is -inf, or
    very low, where a token must not look. precise, narrow: as Attention's.
    """

    narrow = True

    def __init__(self, heads: int, scale: float, precise: bool = False) -> None:
        super().__init__()
        self.heads, self.scale, self.precise = heads, scale, precise

    def forward(self, qkv: Tensor, bias: Tensor) -> Tensor:
        return add_and_attend(qkv, bias, self.heads, self.scale).to(qkv.dtype)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}, precise={self.precise}"


class CachedAttention(nn.Module):
    """qkv [B·S, (heads + 2·shared)·d], past_key and past_value [B, shared, P, d], mask [B, P + S]
    → y [B·S, heads·d] of qkv's dtype, and keys and values of earlier and new tokens [B, shared, P + S, d]

    qkv: of the S new tokens of each sequence, query, key and value side by side; heads / shared heads of queries look
    at the same of keys. Each looks at the real tokens up to itself, 0 in the mask being padding; with a window at the
    last so many alone. precise: as Attention's; kept: the dtype of keys and values, coming and going.
    """

    grows = True  # those that take its place may write behind the keys and values that they are given

    def __init__(
        self,
        heads: int,
        scale: float,
        precise: bool = False,
        kept: torch.dtype = torch.float32,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.scale, self.precise, self.kept, self.window = heads, scale, precise, kept, window

    def forward(self, qkv: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split(qkv, past_key.shape[0], past_key.shape[1], self.heads)
        keys, values = (torch.cat([past, x.to(self.kept)], 2) for past, x in ((past_key, k), (past_value, v)))
        return over_past(q, keys, values, mask, self.scale, self.window).to(qkv.dtype), keys, values

    def extra_repr(self) -> str:
        how = f"heads={self.heads}, scale={self.scale}, precise={self.precise}, kept={self.kept}"
        return how if self.window is None else f"{how}, window={self.window}"


# an operator, so that a loop over sequences whose number nobody knows yet can be exported
@torch.library.custom_op("opswap_reference::attention", mutates_args=())
def attend(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    causal: bool,
    table: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """Attention's forward, not yet in qkv's dtype: the operator's reference, whatever kernels are loaded."""
    return attend_each(qkv, starts.tolist(), keep, heads, scale, causal, table, places)


@attend.register_fake
def _fake_attend(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, causal: bool,
                 table: Tensor | None = None, places: Tensor | None = None) -> Tensor:  # fmt: skip
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)
