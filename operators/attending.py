"""The arithmetic of attention over packed rows, for the references of `attention` and its kin."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

# (the first row of a sequence, the numbers of its keys that are kept [keys], its q [heads, rows, d], its kept k) →
# what is added to its scores, [heads or 1, rows, keys]
Added = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def attend(
    qkv: Tensor,
    at: Sequence[int],
    keep: Tensor | None,
    heads: int,
    scale: float,
    causal: bool = False,
    table: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """The arithmetic of `attention`, at: its starts; nothing is checked, and rows from at[-1] on are zeros."""
    return attend_adding(qkv, at, keep, heads, scale, causal, None if table is None else partial(_added, table, places))


def attend_adding(
    qkv: Tensor,
    at: Sequence[int],
    keep: Tensor | None,
    heads: int,
    scale: float,
    causal: bool = False,
    added: Added | None = None,
) -> Tensor:
    """`attend` with what `added` says added to the scores."""
    total, hidden = qkv.shape[0], qkv.shape[1] // 3
    y = qkv.new_zeros((total, hidden), dtype=torch.float32)
    for first, last in itertools.pairwise(at):
        rows = qkv[first:last].to(torch.float32).view(last - first, 3, heads, hidden // heads)
        q, k, v = rows.permute(1, 2, 0, 3)
        numbers = torch.arange(last - first, device=qkv.device)
        keys = numbers if keep is None else numbers[keep[first:last]]
        scores = scale * (q @ k[:, keys].transpose(1, 2))
        scores = scores.masked_fill(causal & (keys > numbers[:, None]), -torch.inf)
        if added is not None:
            scores = scores + added(first, keys, q, k[:, keys])
        nothing = (scores == -torch.inf).all(2, keepdim=True)  # also where there are no keys at all
        mixed = (torch.softmax(scores.masked_fill(nothing, 0), -1) @ v[:, keys]).masked_fill(nothing, 0)
        y[first:last] = mixed.transpose(0, 1).reshape(last - first, hidden)
    return y


def _added(table: Tensor, places: Tensor | None, first: int, keys: Tensor, q: Tensor, k: Tensor) -> Tensor:
    size = table.shape[3]
    at = places_in(size, places, first, q)
    return table[0].expand(-1, size, size)[:, at[:, None], at[keys]]


def places_in(size: int, places: Tensor | None, first: int, q: Tensor) -> Tensor:
    """→ int64 [rows], where in a table of `size` places the rows of the sequence at `first` are; q: [heads, rows, d]"""
    rows = q.shape[1]
    return (torch.arange(rows, device=q.device) if places is None else places[first : first + rows]) % size
