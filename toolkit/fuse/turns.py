"""One turn of heads by position, as models write it out in eight operators: what is turned, and by which angles."""

from typing import Any, NamedTuple

from torch import fx

from toolkit.fuse.converted import same, unconverted
from toolkit.fuse.heads import RESHAPES
from toolkit.fuse.matching import aten, only_user, shape_of

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


def turn_of(add: fx.Node) -> Turn | None:
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
