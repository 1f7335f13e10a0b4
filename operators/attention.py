"""Attention over packed sequences: torch.ops.opswap.attention and attention_int8.

Rows of all sequences stand one after another, without padding. Query, key and value stand side by side in a row:
qkv [T, 3H], each `heads` heads of d = H / heads columns. For each sequence and head

    y = softmax(scale * q @ k.T) @ v        over the sequence's keys that `keep` allows, in both directions

causal: a row looks at its own key and those before it only.
precise: no kernel may round float32 to bfloat16 on the way, as the fastest does.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from operators import reference, validate
from operators.schema import LEVELS, define, empty_rows


def attention(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    precise: bool = False,
    causal: bool = False,
) -> Tensor:
    """qkv float32 or bfloat16 [T, 3H] -> float32 [T, H].

    starts int32 [B + 1]: rows starts[b] .. starts[b + 1] are one sequence, starts[0] = 0, starts[B] = T.
    keep bool [T]: keys that may be looked at (None: all); what the others hold does not matter. A row that may look
    at none gives zeros. Raises ValueError on a bad argument.
    """
    return _attend("attention", qkv, starts, keep, heads, scale, causal)


def attention_int8(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    symmetric: bool,
    fixed_scale: float = 0.0,
    fixed_zero: int = 128,
    precise: bool = False,
    causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """quantize_per_token(attention(...)): q uint8 [T, H], scale float32 [T], zero_point int32 [T]."""
    levels = (symmetric, fixed_scale, fixed_zero)
    _check_int8(qkv, starts, keep, heads, scale, levels)
    y = _attend("attention_int8", qkv, starts, keep, heads, scale, causal)
    return reference.quantize_per_token(y, *levels)


def _check_int8(
    qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, levels: tuple[bool, float, int]
) -> None:
    validate.check_attention("attention_int8", qkv, starts, keep, heads, scale)
    validate.check_depth("attention_int8", qkv.shape[1] // 3)
    validate.check_levels("attention_int8", *levels)


def _attend(
    op: str, qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, causal: bool
) -> Tensor:
    validate.check_attention(op, qkv, starts, keep, heads, scale)
    at = starts.tolist()
    validate.check_starts(op, at, qkv.shape[0])
    return attend(qkv, at, keep, heads, scale, causal)


def attend(
    qkv: Tensor, at: Sequence[int], keep: Tensor | None, heads: int, scale: float, causal: bool = False
) -> Tensor:
    """The arithmetic of `attention`, at: its starts; nothing is checked, and rows from at[-1] on are zeros."""
    total, hidden = qkv.shape[0], qkv.shape[1] // 3
    y = qkv.new_zeros((total, hidden), dtype=torch.float32)
    for first, last in itertools.pairwise(at):
        rows = qkv[first:last].to(torch.float32).view(last - first, 3, heads, hidden // heads)
        q, k, v = rows.permute(1, 2, 0, 3)
        places = torch.arange(last - first, device=qkv.device)
        keys = places if keep is None else places[keep[first:last]]
        later = causal & (keys > places[:, None])  # [rows, keys]
        scores = (scale * (q @ k[:, keys].transpose(1, 2))).masked_fill(later, -torch.inf)
        mixed = (torch.softmax(scores, -1) @ v[:, keys]).transpose(0, 1).reshape(last - first, hidden)
        y[first:last] = mixed.masked_fill(later.all(1)[:, None], 0)  # also where there are no keys at all
    return y


def _fake_attention(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, *how: bool) -> Tensor:
    validate.check_attention("attention", qkv, starts, keep, heads, scale)
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


def fake_attention_int8(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float,
                         symmetric: bool, fixed_scale: float = 0.0,
                         fixed_zero: int = 128, precise: bool = False,
                         causal: bool = False) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _check_int8(qkv, starts, keep, heads, scale, (symmetric, fixed_scale, fixed_zero))
    return empty_rows(qkv, qkv.shape[0], qkv.shape[1] // 3)


ARGUMENTS = "Tensor qkv, Tensor starts, Tensor? keep, int heads, float scale"
HOW = "bool precise=False, bool causal=False"
define("attention", f"({ARGUMENTS}, {HOW}) -> Tensor", attention, _fake_attention)
define(
    "attention_int8",
    f"({ARGUMENTS}, {LEVELS}, {HOW}) -> (Tensor q, Tensor scale, Tensor zero_point)",
    attention_int8,
    fake_attention_int8,
)
