"""Attention whose queries and keys also meet vectors of positions, as in DeBERTa (He et al. 2021), over packed rows:
torch.ops.opswap.attention_disentangled.

    score[i, j] = scale * (q_i · k_j + q_i · position_keys[key_index[p_i, p_j]]
                                     + k_j · position_queries[query_index[p_i, p_j]])
    y = softmax(score) @ v        over the keys of the sequence that `keep` allows

for each head, p the places of tokens: operators/attention.py says what `places`, `starts`, `keep` and `precise` are.
"""

from functools import partial

import torch
from torch import Tensor

from operators import validate
from operators.attending import attend_adding, places_in
from operators.attention import check_places, check_reach
from operators.schema import define
from operators.validate import require

OP = "attention_disentangled"


def attention_disentangled(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    places: Tensor | None,
    position_keys: Tensor | None,
    key_index: Tensor | None,
    position_queries: Tensor | None,
    query_index: Tensor | None,
    heads: int,
    scale: float,
    precise: bool = False,
) -> Tensor:
    """qkv float32 or bfloat16 [T, 3H], starts int32 [B + 1], keep bool [T] or None → float32 [T, H]

    position_keys, position_queries: float32 [heads, P, d], each with an index of its own P, int32 [S, S], rows: the
    query's place, columns: the key's; a pair, or both. What is reached of an index must lie in 0..P - 1. places int64
    [T], 0 or more, taken modulo S (None: rows are counted from the first of their sequence, which has S at most). A
    row that may look at no key gives zeros. Raises ValueError on a bad argument.
    """
    size = _check(qkv, starts, keep, places, position_keys, key_index, position_queries, query_index, heads, scale)
    at = starts.tolist()
    validate.check_starts(OP, at, qkv.shape[0])
    check_reach(OP, at, "index", size, places)
    added = partial(_added, scale, places, position_keys, key_index, position_queries, query_index)
    return attend_adding(qkv, at, keep, heads, scale, False, added)


def _added(
    scale: float,
    places: Tensor | None,
    position_keys: Tensor | None,
    key_index: Tensor | None,
    position_queries: Tensor | None,
    query_index: Tensor | None,
    first: int,
    keys: Tensor,
    q: Tensor,
    k: Tensor,
) -> Tensor:
    added = q.new_zeros(q.shape[0], q.shape[1], k.shape[1])
    if position_keys is not None and key_index is not None:
        at = _entries("key_index", key_index, places, first, keys, q, position_keys)
        added = added + (q @ position_keys.transpose(1, 2)).gather(2, at)
    if position_queries is not None and query_index is not None:
        at = _entries("query_index", query_index, places, first, keys, q, position_queries)
        added = added + (k @ position_queries.transpose(1, 2)).gather(2, at.transpose(1, 2)).transpose(1, 2)
    return scale * added


def _entries(
    name: str, index: Tensor, places: Tensor | None, first: int, keys: Tensor, q: Tensor, vectors: Tensor
) -> Tensor:
    """→ int64 [heads, rows, keys], what `index` says of a sequence's rows and keys. Raises ValueError."""
    at = places_in(len(index), places, first, q)
    entries, last = index[at[:, None], at[keys]].long(), vectors.shape[1] - 1
    low, high = (int(entries.min()), int(entries.max())) if entries.numel() else (0, 0)
    wanted = f"{OP}: {name} must lie in 0..{last}"
    require(low >= 0 and high <= last, wanted, low if low < 0 else high, "pass a vector for each entry")
    return entries.expand(len(q), -1, -1)


def _check(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    places: Tensor | None,
    position_keys: Tensor | None,
    key_index: Tensor | None,
    position_queries: Tensor | None,
    query_index: Tensor | None,
    heads: int,
    scale: float,
) -> int:
    """→ S"""
    validate.check_attention(OP, qkv, starts, keep, heads, scale)
    d = qkv.shape[1] // (3 * heads)
    _check_pair("position_keys", position_keys, "key_index", key_index, heads, d)
    _check_pair("position_queries", position_queries, "query_index", query_index, heads, d)
    shapes = [list(index.shape) for index in (key_index, query_index) if index is not None]
    require(bool(shapes), f"{OP}: position_keys or position_queries must be given", "none", "use attention")
    wanted = f"{OP}: key_index and query_index must have the same shape"
    require(shapes[0] == shapes[-1], wanted, " and ".join(map(str, shapes)), "expand one")
    check_places(OP, qkv, places)
    return shapes[0][0]


def _check_pair(vectors_name: str, vectors: Tensor | None, name: str, index: Tensor | None, heads: int, d: int) -> None:
    wanted = f"{OP}: {vectors_name} and {name} must come together"
    require((vectors is None) == (index is None), wanted, "one of them", "pass both or none")
    if vectors is None or index is None:
        return
    fits = vectors.dtype == torch.float32 and vectors.dim() == 3 and vectors.shape[::2] == (heads, d)
    wanted = f"{OP}: {vectors_name} must be float32 [{heads}, positions, {d}], of at least one position"
    got = f"{vectors.dtype} of shape {list(vectors.shape)}"
    require(fits and vectors.shape[1] > 0, wanted, got, f"convert or reshape {vectors_name}")
    fits = index.dtype == torch.int32 and index.dim() == 2 and index.shape[0] == index.shape[1] > 0
    got = f"{index.dtype} of shape {list(index.shape)}"
    require(fits, f"{OP}: {name} must be int32 [length, length]", got, f"convert or expand {name}")


def fake_attention_disentangled(
    qkv: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    places: Tensor | None,
    position_keys: Tensor | None,
    key_index: Tensor | None,
    position_queries: Tensor | None,
    query_index: Tensor | None,
    heads: int,
    scale: float,
    precise: bool = False,
) -> Tensor:
    _check(qkv, starts, keep, places, position_keys, key_index, position_queries, query_index, heads, scale)
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3), dtype=torch.float32)


define(
    OP,
    "(Tensor qkv, Tensor starts, Tensor? keep, Tensor? places, Tensor? position_keys, Tensor? key_index, "
    "Tensor? position_queries, Tensor? query_index, int heads, float scale, bool precise=False) -> Tensor",
    attention_disentangled,
    fake_attention_disentangled,
)
