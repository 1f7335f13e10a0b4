"""One attention of a graph: its heads, how they came there and where they go, its scale and its mask."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import fx

from toolkit.copies import RESHAPES
from toolkit.fuse.matching import aten, only_user, shape_of

NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
COPIES = (aten.contiguous.default, aten.clone.default)


class Site(NamedTuple):
    """One attention: its inputs, heads side by side [B, S, H] or by themselves [B, heads, S, d], its output [B, S, H],
    heads, scale, mask; causal without one. Those of `match` that are appended may have fewer heads of keys and values,
    each for several of the query."""

    sources: list[fx.Node]
    out: fx.Node
    heads: int
    scale: float
    mask: Any
    causal: bool


def match(node: fx.Node, appended: Mapping[fx.Node, fx.Node] = MappingProxyType({})) -> Site | None:
    """→ the attention that `node` computes, None if it is no plain one; appended: for keys and values that follow those
    of earlier tokens, the new ones alone"""
    given = _arguments(node)
    parts = [appended.get(given[name], given[name]) for name in NAMES[:3]]
    sources = [_side_by_side(part) for part in parts]
    return None if None in sources else _site(node, given, sources, parts[0], bool(appended))


def match_heads(node: fx.Node) -> Site | None:
    """→ the attention that `node` computes over heads that are no views as `match` wants them, None else"""
    if match(node) is not None:
        return None
    given = _arguments(node)
    parts = [given[name] for name in NAMES[:3]]
    return _site(node, given, parts, parts[0]) if all(len(shape_of(part)) == 4 for part in parts) else None


def _arguments(node: fx.Node) -> dict[str, Any]:
    return {**dict(zip(NAMES, node.args, strict=False)), **node.kwargs}


def _site(
    node: fx.Node, given: dict[str, Any], sources: list[fx.Node], query: fx.Node, fewer: bool = False
) -> Site | None:
    """fewer: whether keys and values may have fewer heads than the query"""
    out = read_side_by_side(node)
    shapes = [_joint_shape(source) for source in sources]
    if out is None or given.get("dropout_p") or given.get("enable_gqa") or shapes[0] != shape_of(out):
        return None
    if shapes[1] != shapes[2] or shapes[1][:2] != shapes[0][:2] or not (fewer or shapes[1] == shapes[0]):
        return None
    _, heads, _, size = query.meta["val"].shape
    scale = given.get("scale")
    scale = size**-0.5 if scale is None else scale
    return Site(sources, out, int(heads), scale, given.get("attn_mask"), bool(given.get("is_causal")))


def _joint_shape(source: fx.Node) -> tuple[str, ...]:
    """→ the shape of `source` with its heads side by side"""
    if len(shape_of(source)) != 4:
        return shape_of(source)
    batch, heads, sequence, size = source.meta["val"].shape
    return str(batch), str(sequence), str(heads * size)


def _side_by_side(heads: fx.Node) -> Any:
    """[B, heads, S, d] = transpose(view of x [B, S, heads·d]) → x, None for anything else"""
    return side_by_side(heads.args[0]) if turns(heads) else None


def side_by_side(view: Any) -> Any:
    """[B, S, heads, d] = view of x [B, S, heads·d] → x, None for anything else"""
    if view.target not in RESHAPES or len(shape_of(view)) != 4:
        return None
    source = view.args[0]
    batch, sequence, count, size = view.meta["val"].shape
    return source if shape_of(source) == (str(batch), str(sequence), str(count * size)) else None


def turns(node: fx.Node) -> bool:
    """Whether `node` exchanges the heads of four dimensions and the sequence"""
    if node.target is aten.permute.default:
        return node.args[1] == [0, 2, 1, 3]
    return node.target is aten.transpose.int and {int(dim) % 4 for dim in node.args[1:]} == {1, 2}  # type: ignore


def read_side_by_side(node: fx.Node) -> fx.Node | None:
    """[B, heads, S, d] → where it is read as [B, S, heads·d] again, None if it is read in any other way"""
    full, turned = shape_of(node), False
    if len(full) != 4:
        return None
    here, user = node, only_user(node)
    while user is not None:
        if turns(user) and not turned:
            turned = True
        elif user.target in RESHAPES and turned and len(shape_of(user)) == 3:
            heads, size = node.meta["val"].shape[1], node.meta["val"].shape[3]
            return user if shape_of(user) == (full[0], full[2], str(heads * size)) else None
        elif user.target not in (*RESHAPES, *COPIES) or shape_of(user) != shape_of(here):
            return None
        here, user = user, only_user(user)
    return None
