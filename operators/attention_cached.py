"""Causal attention of new tokens to themselves and to earlier ones, whose keys and values are kept:
torch.ops.opswap.attention_cached.

Earlier and new tokens of a sequence have one column each in `mask`, the new ones the last. A token looks at the real
ones up to itself:

    y = softmax(scale * q @ k.T) @ v

As many heads of queries as there are for each of keys look at the same one: grouped queries, Ainslie et al., 2023,
arXiv:2305.13245.
"""

import torch
from torch import Tensor

from operators import validate
from operators.schema import define
from operators.validate import require

FLOATS = (torch.float32, torch.bfloat16)


def attention_cached(
    qkv: Tensor, keys: Tensor, values: Tensor, past: int, mask: Tensor, heads: int, scale: float, precise: bool = False
) -> Tensor:
    """qkv float32 or bfloat16 [B * S, (heads + 2 * shared) * d], query, key and value side by side
    → float32 [B * S, heads * d]

    keys, values: float32 or bfloat16 [B, shared, C, d], contiguous, with room for C tokens of each sequence; shared:
    heads, or a divisor of that. The first `past` are there, the S new ones are written behind them. mask int64 or bool
    [B, past + S]: 0 at padding, which nobody looks at. A token that may look at none gives zeros. precise: no kernel
    may round float32 to bfloat16 on the way, but for what `keys` and `values` are made of. Raises ValueError on a bad
    argument.
    """
    _check(qkv, keys, values, past, mask, heads, scale)
    q, k, v = split(qkv, keys.shape[0], keys.shape[1], heads)
    whole = past + k.shape[2]
    keys[:, :, past:whole] = k
    values[:, :, past:whole] = v
    return over_past(q, keys[:, :, :whole], values[:, :, :whole], mask, scale)


def split(qkv: Tensor, batch: int, shared: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """qkv [batch * S, (heads + 2 * shared) * d] → query [batch, heads, S, d], key and value [batch, shared, S, d]"""
    count = heads + 2 * shared
    parts = qkv.reshape(batch, qkv.shape[0] // batch, count, qkv.shape[1] // count).transpose(1, 2)
    q, k, v = parts.split([heads, shared, shared], 1)
    return q, k, v


def looks_at(mask: Tensor, new: int, window: int | None = None) -> Tensor:
    """mask [B, N] → bool [B, new, N]: at which tokens the last `new` look, the real ones up to itself each, with a
    window the last so many alone, itself and padding counted"""
    count = mask.shape[1]
    before = torch.ones(new, count, dtype=torch.bool, device=mask.device).tril(count - new)
    if window is not None:
        before = before.triu(count - new - window + 1)
    return before & (mask != 0)[:, None]


def over_past(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, window: int | None = None) -> Tensor:
    """q [B, heads, S, d], keys, values [B, shared, N, d], mask [B, N] → float32 [B * S, heads * d]: the arithmetic"""
    batch, heads, new, size = q.shape
    if heads > keys.shape[1]:
        keys, values = (kept.repeat_interleave(heads // keys.shape[1], 1) for kept in (keys, values))
    shown = looks_at(mask, new, window)
    scores = (scale * (q.float() @ keys.float().transpose(2, 3))).masked_fill(~shown[:, None], -torch.inf)
    y = (scores.softmax(-1) @ values.float()).masked_fill(~shown.any(2)[:, None, :, None], 0)
    return y.transpose(1, 2).reshape(batch * new, heads * size)


def _check(qkv: Tensor, keys: Tensor, values: Tensor, past: int, mask: Tensor, heads: int, scale: float) -> None:
    op = "attention_cached"
    shared = keys.shape[1] if keys.dim() == 4 and keys.shape[1] > 0 and heads % keys.shape[1] == 0 else heads
    validate.check_packed_heads(op, qkv, heads, scale, shared)
    size = qkv.shape[1] // (heads + 2 * shared)
    for name, kept in (("keys", keys), ("values", values)):
        shape = list(kept.shape)
        fits = kept.dim() == 4 and shape[0] > 0 and shape[1] == shared and shape[3] == size and kept.is_contiguous()
        wanted = f"{op}: {name} must be float32 or bfloat16 [batch, {shared}, room, {size}], contiguous"
        require(fits and kept.dtype in FLOATS, wanted, f"{kept.dtype} of shape {shape}", "allocate them so")
    same = keys.shape == values.shape and keys.dtype == values.dtype
    require(same, f"{op}: keys and values must be alike", f"{list(keys.shape)} and {list(values.shape)}", "fix them")
    batch, room = keys.shape[0], keys.shape[2]
    rows = f"{op}: qkv must have as many rows for each of {batch} sequences"
    require(qkv.shape[0] % batch == 0, rows, qkv.shape[0], "fix qkv or keys")
    whole = past + qkv.shape[0] // batch
    require(past >= 0 and whole <= room, f"{op}: past and new tokens must fit into {room}", whole, "make more room")
    fits = mask.dtype in (torch.int64, torch.bool) and list(mask.shape) == [batch, whole]
    wanted = f"{op}: mask must be int64 or bool [{batch}, {whole}]"
    require(fits, wanted, f"{mask.dtype} of shape {list(mask.shape)}", "one column a token, past and new")


def _fake(
    qkv: Tensor, keys: Tensor, values: Tensor, past: int, mask: Tensor, heads: int, scale: float, precise: bool = False
) -> Tensor:
    _check(qkv, keys, values, past, mask, heads, scale)
    return qkv.new_empty((qkv.shape[0], heads * keys.shape[3]), dtype=torch.float32)


define(
    "attention_cached",
    "(Tensor qkv, Tensor(a!) keys, Tensor(b!) values, SymInt past, Tensor mask, int heads, float scale, "
    "bool precise=False) -> Tensor",
    attention_cached,
    _fake,
)
