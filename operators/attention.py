"""Attention over packed sequences: torch.ops.opswap.attention and attention_int8.

Rows of all sequences stand one after another, without padding. Query, key and value stand side by side in a row:
qkv [T, 3H], each `heads` heads of d = H / heads columns. For each sequence and head

    y = softmax(scale * q @ k.T) @ v        over the sequence's keys that `keep` allows, in both directions

causal: a row looks at its own key and those before it only.
table: what is added to scale * q @ k.T, by where the tokens of row and key stand: table[0, head, place, place], places
taken modulo S. So distances between tokens count in a batch without padding, by tokens as pack_tokens returns them.
precise: no kernel may round float32 to bfloat16 on the way, as the fastest does.
"""

import itertools

import torch
from torch import Tensor

from operators import reference, validate
from operators.attending import attend
from operators.schema import LEVELS, define, empty_rows
from operators.validate import require


def attention(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    precise: bool = False,
    causal: bool = False,
    table: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """qkv float32 or bfloat16 [T, 3H] -> float32 [T, H].

    starts int32 [B + 1]: rows starts[b] .. starts[b + 1] are one sequence, starts[0] = 0, starts[B] = T.
    keep bool [T]: keys that may be looked at (None: all); what the others hold does not matter. A row that may look
    at none gives zeros. table float32 [1, heads or 1, S or 1, S], not with causal; places int64 [T], 0 or more (None:
    rows are counted from the first of their sequence, which has S at most). Raises ValueError on a bad argument.
    """
    return _attend("attention", qkv, starts, keep, heads, scale, causal, table, places)


def attention_int8(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    symmetric: bool,
    fixed_scale: float = 0.0,
    fixed_zero: int = 128,
    rotation: int = 0,
    precise: bool = False,
    causal: bool = False,
    table: Tensor | None = None,
    places: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """quantize_per_token(attention(...)): q uint8 [T, H], scale float32 [T], zero_point int32 [T]."""
    levels = (symmetric, fixed_scale, fixed_zero, rotation)
    _check_int8(qkv, starts, keep, heads, scale, levels)
    y = _attend("attention_int8", qkv, starts, keep, heads, scale, causal, table, places)
    return reference.quantize_per_token(y, *levels)


def _check_int8(
    qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, levels: tuple[bool, float, int, int]
) -> None:
    validate.check_attention("attention_int8", qkv, starts, keep, heads, scale)
    validate.check_depth("attention_int8", qkv.shape[1] // 3)
    validate.check_levels("attention_int8", *levels)


def _attend(
    op: str,
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    heads: int,
    scale: float,
    causal: bool,
    table: Tensor | None,
    places: Tensor | None,
) -> Tensor:
    validate.check_attention(op, qkv, starts, keep, heads, scale)
    check_table(op, qkv, heads, causal, table, places)
    at = starts.tolist()
    validate.check_starts(op, at, qkv.shape[0])
    if table is not None:
        check_reach(op, at, "table", table.shape[3], places)
    return attend(qkv, at, keep, heads, scale, causal, table, places)


def check_table(op: str, qkv: Tensor, heads: int, causal: bool, table: Tensor | None, places: Tensor | None) -> None:
    """table: float32 [1, heads or 1, S or 1, S], not with causal; places: int64 [T], only with a table."""
    if table is None:
        require(places is None, f"{op}: places must come with a table", "places alone", "pass both or none")
        return
    validate.check_bias(op, table, "table")
    one, those, rows, size = table.shape
    fits = one == 1 and those in (1, heads) and rows in (1, size) and size > 0
    require(fits, f"{op}: table must be [1, {heads} or 1, length or 1, length]", list(table.shape), "expand it")
    require(not causal, f"{op}: with a table, causal must be false", "true", "put -inf into the table")
    check_places(op, qkv, places)


def check_places(op: str, qkv: Tensor, places: Tensor | None) -> None:
    """places: int64 [T], or None."""
    if places is not None:
        ok = places.dtype == torch.int64 and places.shape == qkv.shape[:1]
        wanted = f"{op}: places must be int64 of {qkv.shape[0]} entries"
        require(ok, wanted, f"{places.dtype} of shape {list(places.shape)}", "pass what pack_tokens returned")


def check_reach(op: str, at: list[int], table: str, size: int, places: Tensor | None) -> None:
    """What the fake cannot see: places 0 or more, or sequences that `table` has places for."""
    if places is not None:
        return validate.check_places(op, places)
    longest = max((last - first for first, last in itertools.pairwise(at)), default=0)
    wanted = f"{op}: sequences must be no longer than the {table}, {size}"
    require(longest <= size, wanted, longest, f"pass places, or a larger {table}")


def _fake_attention(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float,
                    precise: bool = False, causal: bool = False, table: Tensor | None = None,
                    places: Tensor | None = None) -> Tensor:  # fmt: skip
    validate.check_attention("attention", qkv, starts, keep, heads, scale)
    check_table("attention", qkv, heads, causal, table, places)
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


def fake_attention_int8(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float,
                         symmetric: bool, fixed_scale: float = 0.0,
                         fixed_zero: int = 128, rotation: int = 0,
                         precise: bool = False, causal: bool = False,
                         table: Tensor | None = None,
                         places: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _check_int8(qkv, starts, keep, heads, scale, (symmetric, fixed_scale, fixed_zero, rotation))
    check_table("attention_int8", qkv, heads, causal, table, places)
    return empty_rows(qkv, qkv.shape[0], qkv.shape[1] // 3)


ARGUMENTS = "Tensor qkv, Tensor starts, Tensor? keep, int heads, float scale"
TABLE = "Tensor? table=None, Tensor? places=None"
HOW = f"bool precise=False, bool causal=False, {TABLE}"
define("attention", f"({ARGUMENTS}, {HOW}) -> Tensor", attention, _fake_attention)
define(
    "attention_int8",
    f"({ARGUMENTS}, {LEVELS}, {HOW}) -> (Tensor q, Tensor scale, Tensor zero_point)",
    attention_int8,
    fake_attention_int8,
)
