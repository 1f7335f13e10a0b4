"""No padding: the rows of all positions become the rows of the real tokens."""

import operator
from typing import Any

import torch
from torch import fx

from targets._attention import Attention, BiasedAttention
from targets._disentangled import DisentangledAttention
from targets._missed import miss
from toolkit.fuse.heads import COPIES
from toolkit.fuse.mask import MASK
from toolkit.fuse.matching import ROWS, aten, calls, is_rows, mark_rows, shape_of
from toolkit.fuse.rows import ENTRY, EXIT

# what reads position 0 of each sequence of x, and its arguments after x: x[:, 0] and x[:, :1]
FIRST: dict[Any, Any] = {aten.select.int: (1, 0), aten.slice.Tensor: (1, 0, 1)}


def drop_padding(gm: fx.GraphModule) -> int:
    """rows of all positions, Attention(rows, starts, keep) → rows of the real tokens, Attention(rows, starts, None)
    Attention(rows, starts, keep, table) → Attention(rows, starts, None, table, tokens), and DisentangledAttention alike

    Where rows enter: index_select(rows, tokens). Where they are read as [B, S, C]: unpack_tokens, which gives zeros
    at padding; the padded graph has numbers there, that nobody may read. Only if every attention keeps to the real
    tokens, and nothing after the rows looks from one token at another. → 1 if it did

    Heads may read position 0 of each sequence, and where that is padding, they read the number that is there. So it is
    packed with the real tokens, and attention keeps to those: Attention(rows, starts, index_select(keep, tokens)).
    """
    by_distance = calls(gm, DisentangledAttention)
    attentions = calls(gm, Attention) + by_distance
    exits = _border(gm, EXIT)
    mask = next((node for node in gm.graph.find_nodes(op="placeholder") if node.name == MASK), None)
    biased = calls(gm, BiasedAttention)
    for node in biased:
        miss(
            gm,
            "packing",
            node.name,
            "what is added to its scores is more than a table of positions and a mask of padding",
        )
    if biased:
        return 0
    masked = all(is_rows(node) and node.args[2] is not None for node in attentions)
    if mask is None or not attentions or not masked:
        return 0
    mixing = [node.name for node in exits if not all(_reads_first(reader) for reader in readers(node))]
    if mixing:
        for name in mixing:
            miss(gm, "packing", name, "what reads it looks from one token at another")
        return 0
    first = any(readers(node) for node in exits)
    tokens, *keys = _pack(gm, mask, attentions[0].args, first)
    for node in attentions:
        table = node.args[3:4]
        where = (tokens, *node.args[4:]) if node in by_distance else (*table, *([tokens] if table else []))
        node.args = (node.args[0], *keys, *where)
    for node in _border(gm, ENTRY):
        with gm.graph.inserting_after(node):
            real = mark_rows(gm.graph.call_function(aten.index_select.default, (node, 0, tokens)))
        node.replace_all_uses_with(real, delete_user_cb=lambda user, real=real: user is not real)  # type: ignore[misc]
        del node.meta[ROWS]
    for node in exits:
        rows, shape = node.args
        node.target, node.args = torch.ops.opswap.unpack_tokens.default, (rows, tokens, *shape[:2])  # type: ignore
    return 1


def _border(gm: fx.GraphModule, which: str) -> list[fx.Node]:
    return [node for node in gm.graph.nodes if node.meta.get(ROWS) == which]


def _pack(gm: fx.GraphModule, mask: fx.Node, attention: Any, first: bool) -> tuple[fx.Node, fx.Node, fx.Node | None]:
    """→ nodes of the real tokens' positions, of where each sequence starts, and None; before those that `attention`,
    the arguments of one, has now

    first: position 0 of each sequence is among the tokens, and the third says which of them are real.
    """
    starts, keep = attention[1:3]
    with gm.graph.inserting_before(starts):
        packed = gm.graph.call_function(torch.ops.opswap.pack_tokens.default, (mask, first))
        tokens = gm.graph.call_function(operator.getitem, (packed, 0))
        bounds = gm.graph.call_function(operator.getitem, (packed, 1))
    if not first:
        return tokens, bounds, None
    with gm.graph.inserting_after(keep):
        return tokens, bounds, gm.graph.call_function(aten.index_select.default, (keep, 0, tokens))


def readers(node: fx.Node) -> list[fx.Node]:
    """→ what reads `node`, [B, S, C], but for the output; beyond what treats each token by itself, what reads that"""
    found = []
    for user in node.users:
        if user.op != "output":
            found += readers(user) if _per_token(user) else [user]
    return found


def stays_per_token(node: fx.Node) -> bool:
    """Whether everything from `node`, [B, S, C], to the output treats each token by itself"""
    return not readers(node)


def _reads_first(node: fx.Node) -> bool:
    """Whether `node` reads position 0 of each sequence, and nothing else"""
    return node.args[1:] == FIRST.get(node.target)


def _per_token(node: fx.Node) -> bool:
    if node.target is aten.split.Tensor:
        return len(shape_of(node.args[0])) == 3 and node.args[2:] in ((-1,), (2,))
    return node.target in (operator.getitem, aten.squeeze.dim, aten.to.dtype, *COPIES)
