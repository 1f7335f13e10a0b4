"""Attention that a model writes out in small steps, as one operator: no S × S matrix for each of them, and what fusions
look for."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from toolkit.fuse.matching import aten, only_user, shape_of

ADD = (aten.add.Tensor, aten.add_.Tensor)
KEYS_LAST = [0, 2, 3, 1]  # a permutation: [B, S, heads, d] → [B, heads, d, S]


class Steps(NamedTuple):
    """One attention: the nodes to erase, the last first; query, key and value [B, heads, S, d]; what is added to the
    scores after they are scaled"""

    chain: list[fx.Node]
    query: fx.Node
    key: fx.Node
    value: fx.Node
    scale: float
    masks: tuple[fx.Node, ...]


def raise_attention(gm: fx.GraphModule) -> int:
    """matmul(softmax(matmul(q, kᵀ) · scale + mask), v) → scaled_dot_product_attention(q, k, v, mask, scale=scale)

    Several masks become one by their sum, made once for all layers that share them. The same function: float32 differs
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
            args = (steps.query, _keys(gm.graph, steps.key), steps.value, mask, 0.0, False)
            call = gm.graph.call_function(aten.scaled_dot_product_attention.default, args, {"scale": steps.scale})
        call.meta = dict(last.meta)
        last.replace_all_uses_with(call)
        for dead in steps.chain:  # what works in place is taken for used by cleaning
            gm.graph.erase_node(dead)
        fused += 1
    return fused


def _steps(softmax: fx.Node) -> Steps | None:
    """→ the attention around `softmax`, None if it is none"""
    last, scores = only_user(softmax), softmax.args[0]
    over_keys = softmax.args[1:] in ((-1,), (3,)) and not softmax.kwargs
    if last is None or last.target is not aten.matmul.default or last.args[0] is not softmax or not over_keys:
        return None
    chain, masks, scale = [last, softmax], list[fx.Node](), 1.0
    while isinstance(scores, fx.Node) and only_user(scores) is not None:
        chain.append(scores)
        if scores.target is aten.matmul.default:
            return _whole(chain, scores, last, scale, tuple(reversed(masks)))
        factor = _factor(scores)
        if factor is not None:
            scale *= factor
            scores = scores.args[0]
        elif scores.target in ADD and not scores.kwargs and scale == 1.0:  # else it is scaled too
            scores, mask = _parted(scores)
            masks.append(mask)
        else:
            return None
    return None


def _whole(
    chain: list[fx.Node], product: fx.Node, last: fx.Node, scale: float, masks: tuple[fx.Node, ...]
) -> Steps | None:
    query, keys = product.args
    key, value = _turned_back(keys), last.args[1]
    factor = _factor(query)
    if factor is not None and isinstance(query, fx.Node):  # the query was scaled, and not the scores
        scale, query = scale * factor, query.args[0]
    four = all(len(shape_of(part)) == 4 for part in (query, keys, value))
    floats = [part.meta["val"].dtype for part in (product, *masks) if isinstance(part.meta.get("val"), Tensor)]
    if key is None or not four or len(floats) != 1 + len(masks) or len(set(floats)) > 1:
        return None
    return Steps(chain, query, key, value, scale, masks)  # type: ignore[arg-type]


def _factor(node: Any) -> float | None:
    """x · number or x / number → what x is multiplied with, None for anything else"""
    if not isinstance(node, fx.Node) or node.kwargs or len(node.args) != 2 or not isinstance(node.args[1], int | float):
        return None
    if node.target in (aten.mul.Tensor, aten.mul.Scalar):
        return float(node.args[1])
    return 1.0 / node.args[1] if node.target in (aten.div.Tensor, aten.div.Scalar) else None


def _parted(add: fx.Node) -> tuple[Any, Any]:
    """→ of a sum the scores, which are computed from others' product, and what is added to them"""
    scores, mask = add.args
    return (mask, scores) if _is_product(mask) and not _is_product(scores) else (scores, mask)


def _is_product(node: Any) -> bool:
    while isinstance(node, fx.Node) and (node.target in ADD or _factor(node) is not None):
        node = node.args[0]
    return isinstance(node, fx.Node) and node.target is aten.matmul.default


def _turned_back(keys: Any) -> Any:
    """[B, heads, d, S] → the node that is keys [B, heads, S, d], or that of their heads side by side for `_keys`; None
    if they were turned in another way"""
    if not isinstance(keys, fx.Node):
        return None
    if keys.target is aten.transpose.int and {int(dim) % 4 for dim in keys.args[1:]} == {2, 3}:  # type: ignore
        return keys.args[0]
    return keys if keys.target is aten.permute.default and keys.args[1] == KEYS_LAST else None


def _keys(graph: fx.Graph, key: fx.Node) -> fx.Node:
    if key.target is not aten.permute.default or key.args[1] != KEYS_LAST:
        return key
    turned = graph.call_function(aten.transpose.int, (key.args[0], 1, 2))
    turned.meta["val"] = key.meta["val"].transpose(2, 3)
    return turned


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
