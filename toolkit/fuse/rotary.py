"""Queries and keys that are turned by the position of their token, as one operator on heads side by side."""

from typing import Any, NamedTuple

import torch
from torch import fx

from operators.rotary import FLOATS
from toolkit.fuse.converted import same, unconverted
from toolkit.fuse.heads import RESHAPES, allow_copies, side_by_side, turns
from toolkit.fuse.matching import aten, only_user, shape_of

ROTARY = torch.ops.opswap.rotary.default
SDPA = aten.scaled_dot_product_attention.default
JOINS = (*RESHAPES, aten.reshape_as.default, aten.flatten.using_ints)
TO_END = (None, 2**63 - 1)


class Turn(NamedTuple):
    """One turn: the node that has its result, the heads that it turns [B, heads, S, d] or [B, S, heads, d], cos and sin
    of as many dimensions, whether pairs are neighbours, the number that the heads were multiplied by before"""

    end: fx.Node
    heads: Any
    cos: Any
    sin: Any
    interleaved: bool
    factor: float = 1.0


def raise_rotary(gm: fx.GraphModule) -> int:
    """x · cos + half(x) · sin of heads x, that are a view of some y [B, S, heads·d]
    → the same view of rotary(y, cos [B or 1, S, r], sin)

    half(x): (-x2, x1) of its halves, or of each two neighbours. Of the first r numbers of each head alone where the
    rest is put beside them again. In float32 the bits stay, also where x of 16 bits was converted for it, but where x
    was scaled before: attention does that then. In 16 bits only what comes out is rounded, not each product too.
    """
    flat: dict[fx.Node, fx.Node] = {}
    raised = 0
    for node in gm.graph.find_nodes(op="call_function", target=aten.add.Tensor):
        turn = _turn(node)
        if turn is not None and _fits(turn):
            _rewrite(gm.graph, turn, flat)
            raised += 1
    return raised


def joined(sources: list[fx.Node]) -> tuple[list[fx.Node], tuple[Any, ...]]:
    """sources: query, key and value, heads side by side → the same as they were before query and key were turned alike,
    and what rotary takes after x to turn the three side by side; () where they are not"""
    query, key, value = sources
    if query.target is not ROTARY or key.target is not ROTARY:
        return sources, ()
    (before, *angles, heads, interleaved), (other, *others, more, ways) = query.args, key.args
    if angles != others or interleaved != ways:
        return sources, ()
    return [before, other, value], (*angles, heads + more, interleaved)  # type: ignore[operator, list-item]


def _turn(add: fx.Node) -> Turn | None:
    """→ the turn that ends in `add`, None for any other sum"""
    args: Any = add.args
    for plain, crossed in (args, args[::-1]) if not add.kwargs else ():  # alpha: what the second part is scaled by
        if not (_is_product(plain) and _is_product(crossed)):
            continue
        for half, sin in (crossed.args, crossed.args[::-1]):
            heads, interleaved = _half(half)
            others = [one for one in plain.args if heads is None or not same(one, heads)]
            if len(others) == 1 and isinstance(others[0], fx.Node) and isinstance(sin, fx.Node):
                turn = _unconverted(Turn(add, heads, others[0], sin, interleaved))
                return _unscaled(_unconverted(_with_the_rest(turn)))
    return None


def _unconverted(turn: Turn) -> Turn:
    """The turn of x made float32, and rounded again → that of x: rotary computes in float32, and rounds once"""
    heads, end = unconverted(turn.heads, turn.end)
    return turn._replace(heads=heads, end=end)


def _is_product(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is aten.mul.Tensor and len(node.args) == 2


def _half(node: Any) -> tuple[Any, bool]:
    """→ x and whether pairs are neighbours, if `node` is half(x); None else"""
    pairs = isinstance(node, fx.Node) and node.target in JOINS
    parts = node.args[0] if pairs else node
    wanted = aten.stack.default if pairs else aten.cat.default
    if not isinstance(parts, fx.Node) or parts.target is not wanted:
        return None, pairs
    beside: Any = parts.args[0]
    if len(beside) != 2 or parts.args[1:] != (-1,) or beside[0].target is not aten.neg.default:
        return None, pairs
    minus, plus = beside
    heads: Any = plus.args[0] if plus.args else None  # an input has none
    if shape_of(node) != shape_of(heads) or len(shape_of(heads)) != 4:
        return None, pairs
    r = heads.meta["val"].shape[3]
    two, one = ((1, r, 2), (0, r, 2)) if pairs else ((r // 2, r, 1), (0, r // 2, 1))
    return heads if _cuts(minus.args[0], heads, *two) and _cuts(plus, heads, *one) else None, pairs


def _cuts(node: Any, x: fx.Node, start: int, end: int, step: int = 1) -> bool:
    """Whether `node` is x[..., start:end:step]"""
    if node.target is not aten.slice.Tensor or node.args[0] is not x or node.args[1] not in (3, -1):
        return False
    whole = x.meta["val"].shape[3]
    given: tuple[Any, ...] = node.args[2:]
    begin, stop, by = given + (None, None, 1)[len(given) :]
    return (begin or 0, whole if stop in TO_END else stop, by) == (start, end, step)


def _with_the_rest(turn: Turn) -> Turn:
    """cat([turn of x[..., :r], x[..., r:]], -1) → the turn of x"""
    cut, cat = turn.heads, only_user(turn.end)
    if cut.target is not aten.slice.Tensor or cat is None or cat.target is not aten.cat.default:
        return turn
    x, r, parts = cut.args[0], cut.meta["val"].shape[3], cat.args[0]
    rests = len(parts) == 2 and parts[0] is turn.end and cat.args[1:] in ((-1,), (3,))  # type: ignore
    if not rests or not _cuts(cut, x, 0, r) or not _cuts(parts[1], x, r, x.meta["val"].shape[3]):  # type: ignore
        return turn
    return turn._replace(end=cat, heads=x)


def _unscaled(turn: Turn) -> Turn:
    """The turn of x · number, as query or key of attention alone → that of x"""
    number = turn.heads.args[1] if _is_product(turn.heads) else None
    alone = all(
        user.target is SDPA and turn.end in user.args[:2] and [*user.args].count(turn.end) == 1
        for user in turn.end.users
    )
    return turn._replace(heads=turn.heads.args[0], factor=number) if isinstance(number, float) and alone else turn


def _fits(turn: Turn) -> bool:
    """Whether the heads are a view of [B, S, heads·d], the angles [B or 1, S, r] but for the heads, and the result of
    the heads' type"""
    across, full, source = _heads_dim(turn), shape_of(turn.heads), _source(turn)
    if source is None:
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


def _heads_dim(turn: Turn) -> int:
    return 1 if turns(turn.heads) else 2


def _source(turn: Turn) -> Any:
    """→ y [B, S, heads·d] that the heads are a view of, None if they are none"""
    view: Any = turn.heads.args[0] if turns(turn.heads) else turn.heads
    return side_by_side(view)


def _rewrite(graph: fx.Graph, turn: Turn, flat: dict[fx.Node, fx.Node]) -> None:
    """flat: the angles that were made already, by what they are made of"""
    source, across = _source(turn), _heads_dim(turn)
    value, whole = turn.heads.meta["val"], source.meta["val"]
    for one in (turn.cos, turn.sin):
        if one not in flat:
            flat[one] = _without_heads(graph, one, across)
    size, heads = value.shape[3], value.shape[across]
    view: Any = turn.heads.args[0] if across == 1 else turn.heads
    with graph.inserting_before(turn.end):
        angles = flat[turn.cos], flat[turn.sin]
        turned = graph.call_function(ROTARY, (source, *angles, int(size), int(heads), turn.interleaved))
        made = graph.call_function(aten.view.default, (turned, view.args[1]))
        turned.meta["val"], made.meta = whole, dict(view.meta)
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
