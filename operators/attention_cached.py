"""Causal attention of new tokens to themselves and to earlier ones, whose keys and values are kept:
torch.ops.opswap.attention_cached.

Earlier and new tokens of a sequence have one column each in `mask`, the new ones the last. A token looks at the real
ones up to itself:

    y = softmax(scale * q @ k.T) @ v
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
    """qkv float32 or bfloat16 [B * S, 3H], query, key and value side by side → float32 [B * S, H]

    keys, values: float32 or bfloat16 [B, heads, C, H / heads], contiguous, with room for C tokens of each sequence; the
    first `past` are there, the S new ones are written behind them. mask int64 or bool [B, past + S]: 0 at padding,
    which nobody looks at. A token that may look at none gives zeros. precise: no kernel may round float32 to bfloat16
    on the way, but for what `keys` and `values` are made of. Raises ValueError on a bad argument.
    """
    _check(qkv, keys, values, past, mask, heads, scale)
    q, k, v = split(qkv, keys.shape[0], heads)
    whole = past + k.shape[2]
    keys[:, :, past:whole] = k
    values[:, :, past:whole] = v
    return over_past(q, keys[:, :, :whole], values[:, :, :whole], mask, scale)


def split(qkv: Tensor, batch: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """qkv [batch * S, 3H] → query, key, value [batch, heads, S, H / heads]"""
    size = qkv.shape[1] // (3 * heads)
    q, k, v = qkv.reshape(batch, qkv.shape[0] // batch, 3, heads, size).permute(2, 0, 3, 1, 4)
    return q, k, v


def over_past(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """q [B, heads, S, d], keys and values [B, heads, N, d], mask [B, N] → float32 [B * S, heads * d]: the arithmetic"""
    batch, heads, new, size = q.shape
    count = keys.shape[2]
    shown = torch.ones(new, count, dtype=torch.bool, device=q.device).tril(count - new) & (mask != 0)[:, None]
    scores = (scale * (q.float() @ keys.float().transpose(2, 3))).masked_fill(~shown[:, None], -torch.inf)
    y = (scores.softmax(-1) @ values.float()).masked_fill(~shown.any(2)[:, None, :, None], 0)
    return y.transpose(1, 2).reshape(batch * new, heads * size)


def _check(qkv: Tensor, keys: Tensor, values: Tensor, past: int, mask: Tensor, heads: int, scale: float) -> None:
    op = "attention_cached"
    validate.check_packed_heads(op, qkv, heads, scale)
    size = qkv.shape[1] // (3 * heads)
    for name, kept in (("keys", keys), ("values", values)):
        shape = list(kept.shape)
        fits = kept.dim() == 4 and shape[0] > 0 and shape[1] == heads and shape[3] == size and kept.is_contiguous()
        wanted = f"{op}: {name} must be float32 or bfloat16 [batch, {heads}, room, {size}], contiguous"
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
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


define(
    "attention_cached",
    "(Tensor qkv, Tensor(a!) keys, Tensor(b!) values, SymInt past, Tensor mask, int heads, float scale, "
    "bool precise=False) -> Tensor",
    attention_cached,
    _fake,
)
