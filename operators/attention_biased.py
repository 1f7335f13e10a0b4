"""Attention with numbers of the model's own added to its scores: torch.ops.opswap.attention_biased.

    y = softmax(scale * q @ k.T + bias) @ v        of sequences that all have the same length, padding and all

Distances between tokens add to the scores so, and so does any mask, by numbers low enough.
"""

import torch
from torch import Tensor

from operators import validate
from operators.schema import define
from operators.validate import require


def attention_biased(qkv: Tensor, bias: Tensor, heads: int, scale: float, precise: bool = False) -> Tensor:
    """qkv float32 or bfloat16 [B * S, 3H], query, key and value side by side → float32 [B * S, H]

    bias: float32 [B or 1, heads or 1, S or 1, S], -inf where a token must not look; one that may look at none gives
    zeros. precise: no kernel may round float32 to bfloat16 on the way. Raises ValueError on a bad argument.
    """
    _check(qkv, bias, heads, scale)
    return add_and_attend(qkv, bias, heads, scale)


def add_and_attend(qkv: Tensor, bias: Tensor, heads: int, scale: float) -> Tensor:
    """The arithmetic of `attention_biased`; nothing is checked."""
    rows, length, width = qkv.shape[0], bias.shape[3], qkv.shape[1] // 3
    q, k, v = qkv.float().reshape(rows // length, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = scale * (q @ k.transpose(2, 3)) + bias
    nothing = (scores == -torch.inf).all(3, keepdim=True)
    y = (scores.masked_fill(nothing, 0).softmax(-1) @ v).masked_fill(nothing, 0)
    return y.transpose(1, 2).reshape(rows, width)


def _check(qkv: Tensor, bias: Tensor, heads: int, scale: float) -> None:
    op = "attention_biased"
    validate.check_packed_heads(op, qkv, heads, scale)
    validate.check_bias(op, bias)
    rows, length = qkv.shape[0], bias.shape[3]
    most = (rows // length, heads, length) if length > 0 and rows % length == 0 else ()
    fits = most and all(have in (1, want) for have, want in zip(bias.shape[:3], most, strict=True))
    wanted = f"bias must be [batch or 1, {heads} or 1, length or 1, length] for qkv of batch * length = {rows} rows"
    require(bool(fits), f"{op}: {wanted}", list(bias.shape), "expand it")


def _fake(qkv: Tensor, bias: Tensor, heads: int, scale: float, precise: bool = False) -> Tensor:
    validate.check_packed_heads("attention_biased", qkv, heads, scale)
    validate.check_bias("attention_biased", bias)
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


define(
    "attention_biased",
    "(Tensor qkv, Tensor bias, int heads, float scale, bool precise=False) -> Tensor",
    attention_biased,
    _fake,
)
