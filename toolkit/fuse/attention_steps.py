"""Attention that a model writes out in small steps, as one operator: no S × S matrix for each of them, and what fusions
look for."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from toolkit.copies import allow_copies
from toolkit.fuse.matching import aten, broadcasts, only_user, shape_of

ADD = aten.add.Tensor
KEYS_LAST = [0, 2, 3, 1]  # a permutation: [B, S, heads, d] → [B, heads, d, S]


class Steps(NamedTuple):
    """One attention: the nodes to erase, the last first; query and value [B, heads, S, d], keys [B, heads, d, S]; what
    is added to the scores after they are scaled"""

    chain: list[fx.Node]
    query: fx.Node
    keys: fx.Node
    value: fx.Node
    scale: float
    masks: tuple[fx.Node, ...]


def raise_attention(gm: fx.GraphModule) -> int:
    """matmul(softmax(matmul(q, kᵀ) · scale + mask), v) → scaled_dot_product_attention(q, k, v, mask, scale=scale)

    Several masks become one by their sum, made once for all layers that share them. The softmax may be in float32, and
    what it returns in the scores' dtype again: so PyTorch's attention computes it. The same function: float32 differs
    in its last bits.
    """
    sums: dict[tuple[fx.Node, ...], fx.Node] = {}
    fused = 0
    for softmax in gm.graph.find_nodes(op="call_function", target=aten.softmax.int):
        steps = _steps(softmax)
        if steps is None:
            continue
        last = steps.chain[0]
        with gm.graph.inserting_before(last):
            mask = _sum_of(gm.graph, steps.masks, sums)
            args = (steps.query, _key(gm.graph, steps.keys), steps.value, mask, 0.0, False)
            call = gm.graph.call_function(aten.scaled_dot_product_attention.default, args, {"scale": steps.scale})
        call.meta = dict(last.meta)
        last.replace_all_uses_with(call)
        allow_copies(call)
        for dead in steps.chain:
            gm.graph.erase_node(dead)
        fused += 1
    return fused


def _steps(softmax: fx.Node) -> Steps | None:
    """→ the attention around `softmax`, None if it is none"""
    scores, back = softmax.args[0], _back(softmax)
    last = only_user(back)
    over_keys = softmax.args[1:2] in ((-1,), (3,)) and softmax.args[2:] in ((), (torch.float32,)) and not softmax.kwargs
    if last is None or last.target is not aten.matmul.default or last.args[0] is not back or not over_keys:
        return None
    if _dtype(scores) != _dtype(back):
        return None
    chain, masks, scale = list(dict.fromkeys((last, back, softmax))), list[Any](), 1.0
    while isinstance(scores, fx.Node) and only_user(scores) is not None:
        chain.append(scores)
        if scores.target is aten.matmul.default:
            return _whole(chain, scores, last, scale, tuple(reversed(masks)))
        factor = _factor(scores)
        if factor is not None:
            scale *= factor
            scores = scores.args[0]
        elif scores.target is ADD and not scores.kwargs and scale == 1.0:  # else it is scaled too
            scores, mask = _parted(scores)
            masks.append(mask)
        else:
            return None
    return None


def _back(softmax: fx.Node) -> fx.Node:
    """→ what converts `softmax`, if that is all that reads it, else itself"""
    user = only_user(softmax)
    return user if user is not None and user.target is aten.to.dtype and not user.kwargs else softmax


def _dtype(node: Any) -> Any:
    return node.meta["val"].dtype


def _whole(chain: list[fx.Node], product: fx.Node, last: fx.Node, scale: float, masks: tuple[Any, ...]) -> Steps | None:
    query, keys = product.args
    value = last.args[1]
    factor = _factor(query)
    if factor is not None and isinstance(query, fx.Node):  # the query was scaled, and not the scores
        scale, query = scale * factor, query.args[0]
    four = all(len(shape_of(part)) == 4 for part in (query, keys, value))
    apart = not any(part in chain for part in (value, *masks))
    if not (four and apart and _is_turned(keys) and _are_added(masks, product)):
        return None
    return Steps(chain, query, keys, value, scale, masks)  # type: ignore[arg-type]


def _are_added(masks: tuple[Any, ...], product: fx.Node) -> bool:
    """Whether `masks` are tensors of the scores' dtype that make them no larger, at least one of two dimensions:
    PyTorch's attention takes no other"""
    dtype = _dtype(product)
    values = [mask.meta.get("val") if isinstance(mask, fx.Node) else None for mask in masks]
    if not all(isinstance(value, Tensor) and value.dtype == dtype for value in values):
        return False
    shapes, full = [shape_of(mask) for mask in masks], shape_of(product)
    return max(map(len, shapes), default=2) >= 2 and all(broadcasts(shape, full) for shape in shapes)


def _factor(node: Any) -> float | None:
    """x · number or x / number → what x is multiplied with, None for anything else"""
    if not isinstance(node, fx.Node) or node.kwargs or len(node.args) != 2 or not isinstance(node.args[1], int | float):
        return None
    if node.target in (aten.mul.Tensor, aten.mul.Scalar):
        return float(node.args[1])
    return 1.0 / node.args[1] if node.target in (aten.div.Tensor, aten.div.Scalar) and node.args[1] else None


def _parted(add: fx.Node) -> tuple[Any, Any]:
    """→ of a sum the scores, which are computed from others' product, and what is added to them"""
    scores, mask = add.args
    return (mask, scores) if _is_product(mask) and not _is_product(scores) else (scores, mask)


def _is_product(node: Any) -> bool:
    while isinstance(node, fx.Node) and (node.target is ADD or _factor(node) is not None):
        node = node.args[0]
    return isinstance(node, fx.Node) and node.target is aten.matmul.default


def _is_turned(keys: Any) -> bool:
    """Whether `keys`, [B, heads, d, S], were turned from [B, heads, S, d] or from their heads side by side"""
    if keys.target is aten.permute.default:
        return bool(keys.args[1] == KEYS_LAST)
    return keys.target is aten.transpose.int and {int(dim) % 4 for dim in keys.args[1:]} == {2, 3}


def _key(graph: fx.Graph, keys: fx.Node) -> fx.Node:
    """→ [B, heads, S, d], of which `keys` were turned"""
    source: Any = keys.args[0]
    if keys.target is aten.transpose.int:
        return source  # type: ignore[no-any-return]
    key = graph.call_function(aten.transpose.int, (source, 1, 2))
    key.meta["val"] = keys.meta["val"].transpose(2, 3)
    return key


def _sum_of(graph: fx.Graph, masks: tuple[fx.Node, ...], sums: dict[tuple[fx.Node, ...], fx.Node]) -> fx.Node | None:
    """→ the sum of `masks`, None of none; made where this is first asked for"""
    if len(masks) < 2:
        return masks[0] if masks else None
    if masks not in sums:
        total = masks[0]
        for mask in masks[1:]:
            value = torch.broadcast_tensors(total.meta["val"], mask.meta["val"])[0]
            total = graph.call_function(aten.add.Tensor, (total, mask))
            total.meta["val"] = value
        sums[masks] = total
    return sums[masks]
