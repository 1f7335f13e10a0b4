"""Several of a transformer's layers as one operator: attention_int8 and feed_forward_int8 by turns.

What a layer hands on is read by the next alone, so that nothing of it has to leave the operator.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators import attention, feed_forward
from operators.feed_forward import Result, unpack_layer
from operators.schema import define
from operators.validate import require

OP = "layers_int8"
How = tuple[int, float, bool, float, int, int, bool, bool]
Where = tuple[Tensor | None, Tensor | None]  # table and places


class Call(NamedTuple):
    """The operator's arguments; qkv float32 [T, 3H], residual float32 [T, N]; fixed_scales and fixed_zeros of each
    layer, quantize and then of the last; the others as attention_int8 and feed_forward_int8 take them"""

    qkv: Tensor
    residual: Tensor
    starts: Tensor
    keep: Tensor | None
    heads: int
    scale: float
    symmetric: bool
    fixed_scales: list[float]
    fixed_zeros: list[int]
    rotation: int
    precise: bool
    causal: bool
    layers: list[Tensor]
    quantize: bool
    then: int
    table: Tensor | None = None
    places: Tensor | None = None

    def how(self) -> list[How]:
        """→ for each layer what attention_int8 takes from heads on. Raises ValueError for lists of other lengths, and
        another qkv."""
        sizes = [len(values) for values in (self.fixed_scales, self.fixed_zeros, self.layers)]
        require(
            len(set(sizes)) == 1 and sizes[0] > 0,
            f"{OP}: there must be a fixed_scale and a fixed_zero for each layer, and a layer",
            sizes,
            "pass all of them",
        )
        require(
            self.qkv.dtype == torch.float32 and self.qkv.dim() == 2,
            f"{OP}: qkv must be float32 with 2 dimensions",
            f"{self.qkv.dtype} of shape {list(self.qkv.shape)}",
            "convert or reshape it",
        )
        levels = zip(self.fixed_scales, self.fixed_zeros, strict=True)
        rest = self.rotation, self.precise, self.causal
        return [(self.heads, self.scale, self.symmetric, *level, *rest) for level in levels]


def layers_int8(*args: Any) -> Result:
    """→ what the last feed_forward_int8 gives of

        rows = attention_int8(qkv, starts, keep, heads, scale, symmetric, fixed_scale, fixed_zero, rotation,
                              precise, causal, table, places)
        residual, ..., qkv = feed_forward_int8(rows, residual, layer, ...)

    for each layer. args: Call's. Raises ValueError."""
    call = Call(*args)
    how, tokens, last = call.how(), (call.starts, call.keep), (call.quantize, call.then)
    parts = attention.attention_int8, feed_forward.feed_forward_int8
    try:
        where = call.table, call.places
        return in_turn(call.qkv, call.residual, tokens, how, call.layers, last, *parts, where)
    except ValueError as error:  # of one of the parts
        raise ValueError(f"{OP}: {str(error).partition(': ')[2]}") from error


def in_turn(
    qkv: Tensor,
    residual: Tensor,
    tokens: tuple[Tensor, Tensor | None],
    how: Sequence[How],
    layers: Sequence[Tensor],
    last: tuple[bool, int],
    attend: Callable,
    forward: Callable,
    where: Where = (None, None),
) -> Result:
    """What layers_int8 gives, by the operators that it is made of; how and where: what attention_int8 takes from heads
    on"""
    for settings, layer in zip(how[:-1], layers[:-1], strict=True):
        residual, *_, qkv = forward(*attend(qkv, *tokens, *settings, *where), residual, layer, False, _outputs(layer))
    return forward(*attend(qkv, *tokens, *how[-1], *where), residual, layers[-1], *last)


def _outputs(layer: Tensor) -> int:
    """→ of the fourth linear"""
    weight_sum = unpack_layer(OP, layer)[-3]
    require(
        weight_sum is not None,
        f"{OP}: a layer before the last must have a fourth linear",
        "none",
        "pack it with the next one's query, key and value",
    )
    return weight_sum.numel()


def _fake(*args: Any) -> Result:
    call = Call(*args)
    rows = attention.fake_attention_int8(call.qkv, call.starts, call.keep, *call.how()[0], call.table, call.places)
    return feed_forward.fake(*rows, call.residual, call.layers[-1], call.quantize, call.then)


define(
    OP,
    "(Tensor qkv, Tensor residual, Tensor starts, Tensor? keep, int heads, float scale, bool symmetric, "
    "float[] fixed_scales, int[] fixed_zeros, int rotation, bool precise, bool causal, Tensor[] layers, "
    f"bool quantize, int then, {attention.TABLE}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    layers_int8,
    _fake,
)
