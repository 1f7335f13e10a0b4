"""Queries and keys that are turned by the position of their token, as one operator on heads side by side."""

from typing import Any, NamedTuple

import torch
from torch import fx

from operators.rotary import FLOATS
from toolkit.copies import allow_copies
from toolkit.fuse.head_norms import HeadNorm, joint_norm, norm_of, unnormed
from toolkit.fuse.heads import side_by_side, turns
from toolkit.fuse.matching import aten, shape_of
from toolkit.fuse.turns import Turn, turn_of

ROTARY = torch.ops.opswap.rotary.default


class Heads(NamedTuple):
    """What the heads of a turn are: the view [B, S, heads, d] that they come from, which of their own dimensions is
    that of the heads, and the norm between the two"""

    view: Any
    across: int
    norm: HeadNorm | None


def raise_rotary(gm: fx.GraphModule) -> int:
    """x · cos + half(x) · sin of heads x, that are a view of some y [B, S, heads·d]
    → the same view of rotary(y, cos [B or 1, S, r], sin)

    half(x): (-x2, x1) of its halves, or of each two neighbours. Of the first r numbers of each head alone where the
    rest is put beside them again. In float32 the bits stay, also where x of 16 bits was converted for it, but where x
    was scaled before: attention does that then. In 16 bits only what comes out is rounded, not each product too.
    Where x is rms_norm(such a view, [d], weight, eps), rotary takes the view's, and does that as well.
    """
    flat: dict[fx.Node, fx.Node] = {}
    raised = 0
    for node in gm.graph.find_nodes(op="call_function", target=aten.add.Tensor):
        turn = turn_of(node)
        if turn is not None and _fits(turn, heads := _heads(gm, turn.heads)):
            _rewrite(gm.graph, turn, heads, flat)
            raised += 1
    return raised


def joined(graph: fx.Graph, sources: list[fx.Node]) -> tuple[list[fx.Node], tuple[Any, ...], dict[str, Any]]:
    """sources: query, key and value, heads side by side → the same as they were before query and key were turned alike,
    and what rotary takes after x, and by name, to turn the three side by side; () where they are not"""
    query, key, value = sources
    if query.target is not ROTARY or key.target is not ROTARY:
        return sources, (), {}
    (before, *angles, heads, interleaved), (other, *others, more, ways) = query.args, key.args
    named = joint_norm(graph, query, key) if angles == others and interleaved == ways else None
    if named is None:
        return sources, (), {}
    return [before, other, value], (*angles, heads + more, interleaved), named  # type: ignore[operator, list-item]


def _heads(gm: fx.GraphModule, heads: Any) -> Heads:
    before, norm = unnormed(gm, heads)
    if not turns(before):
        return Heads(before, 2, norm)
    view: Any = before.args[0]
    if norm is None:
        view, norm = unnormed(gm, view)
    return Heads(view, 1, norm)


def _fits(turn: Turn, heads: Heads) -> bool:
    """Whether the heads are a view of [B, S, heads·d], the angles [B or 1, S, r] but for the heads, and the result of
    the heads' type"""
    across, full = heads.across, shape_of(turn.heads)
    if side_by_side(heads.view) is None:
        return False
    batch, sequence = full[0], full[3 - across]
    for one in (turn.cos, turn.sin):
        have = shape_of(one)
        if len(have) != 4 or have[across] != "1" or have[0] not in ("1", batch) or have[3 - across] != sequence:
            return False
    values = [node.meta["val"] for node in (turn.heads, turn.cos, turn.sin)]
    alike = shape_of(turn.cos) == shape_of(turn.sin) and values[1].shape[3] % 2 == 0
    kinds = {value.dtype for value in values[1:]}
    kept = turn.end.meta["val"].dtype == values[0].dtype
    return alike and len(kinds) == 1 and kept and {values[0].dtype, *kinds} <= set(FLOATS)


def _rewrite(graph: fx.Graph, turn: Turn, heads: Heads, flat: dict[fx.Node, fx.Node]) -> None:
    """flat: the angles that were made already, by what they are made of"""
    view, across, norm = heads
    source, (count, size) = side_by_side(view), map(int, view.meta["val"].shape[2:])
    for one in (turn.cos, turn.sin):
        if one not in flat:
            flat[one] = _without_heads(graph, one, across)
    with graph.inserting_before(turn.end):
        angles, named = (flat[turn.cos], flat[turn.sin]), norm_of(graph, norm, count)
        turned = graph.call_function(ROTARY, (source, *angles, size, count, turn.interleaved), named)
        made = graph.call_function(aten.view.default, (turned, view.args[1]))
        turned.meta["val"], made.meta = source.meta["val"], dict(view.meta)
        if across == 1:
            made = graph.call_function(aten.transpose.int, (made, 1, 2))
            made.meta = dict(turn.end.meta)
    for attention in list(turn.end.users) if turn.factor != 1 else ():
        scale: Any = attention.kwargs.get("scale") or size**-0.5
        attention.kwargs = {**attention.kwargs, "scale": turn.factor * scale}
    turn.end.replace_all_uses_with(made)
    allow_copies(made)


def _without_heads(graph: fx.Graph, angles: fx.Node, across: int) -> fx.Node:
    """[.., 1, ..] → the same without the dimension `across`"""
    before: Any = angles.args[0]
    if angles.target is aten.unsqueeze.default and angles.args[1] in (across, across - 4):
        return before
    with graph.inserting_after(angles):
        made = graph.call_function(aten.select.int, (angles, across, 0))
    made.meta["val"] = angles.meta["val"].select(across, 0)
    return made
