"""Attention as one module on packed heads, and with what it is quantized."""

import logging
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import fx

from targets._attention import Attention, AttentionRows
from targets._fused import Quantize
from toolkit.fuse.mask import CAUSAL, MASK, PADDING, kind_of
from toolkit.fuse.matching import add_module, aten, calls, module_of, only_user, shape_of, sizes

log = logging.getLogger(__name__)

SDPA = aten.scaled_dot_product_attention.default
NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
RESHAPES = (aten.view.default, aten.reshape.default)
COPIES = (aten.contiguous.default, aten.clone.default)
Keys = tuple[fx.Node, fx.Node | None]


class Site(NamedTuple):
    """One attention: its inputs [B, S, H], its output [B, S, H], heads, scale, mask; causal without one"""

    sources: list[fx.Node]
    out: fx.Node
    heads: int
    scale: float
    mask: Any
    causal: bool


def fuse_attention(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(heads of q, of k, of v, padding or causal mask), heads side by side again
    → Attention(q, k and v side by side [B·S, 3H], starts, keep), back to [B, S, H]

    starts: where each sequence begins, keep: which tokens are real (None without a mask). Any other mask is left alone;
    the log says so.
    """
    masks: dict[Any, str | None] = {None: PADDING}
    keys: dict[Any, Keys] = {}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA):
        site = match(node)
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None:
            log.info("attention %s is left alone: it is not plain attention over heads of one sequence", node.name)
            continue
        if site.mask not in masks:
            masks[site.mask] = kind_of(gm, site.mask)
        kind = masks[site.mask]
        if kind is None:
            log.info("attention %s is left alone: its mask is neither the padding's nor causal", node.name)
            continue
        masked = site.mask is not None
        if (size, masked) not in keys:
            keys[size, masked] = _padded(gm, size, masked)
        made = Attention(site.heads, site.scale, causal=site.causal or kind == CAUSAL)
        _rewrite(gm, node, site, size, keys[size, masked], made)
        fused += 1
    return fused


def fuse_attention_rows(gm: fx.GraphModule) -> int:
    """Quantize(Attention(...)) → AttentionRows(...)"""
    fused = 0
    for node in calls(gm, Attention):
        user = only_user(node)
        attention, quantize = module_of(gm, node), module_of(gm, user)
        if isinstance(attention, Attention) and isinstance(quantize, Quantize) and user is not None:
            made = AttentionRows(attention.heads, attention.scale, quantize.activation, causal=attention.causal)
            gm.set_submodule(str(node.target), made.eval())
            user.replace_all_uses_with(node)
            fused += 1
    return fused


def match(node: fx.Node, appended: Mapping[fx.Node, fx.Node] = MappingProxyType({})) -> Site | None:
    """→ the attention that `node` computes, None if it is no plain one; appended: for keys and values that follow those
    of earlier tokens, the new ones alone"""
    given: dict[str, Any] = {**dict(zip(NAMES, node.args, strict=False)), **node.kwargs}
    if given.get("dropout_p") or given.get("enable_gqa"):
        return None
    parts = [appended.get(given[name], given[name]) for name in NAMES[:3]]
    sources, out = [_side_by_side(part) for part in parts], _joined(node)
    shapes = {shape_of(source) for source in sources}
    if out is None or None in sources or shapes != {shape_of(out)}:
        return None
    _, heads, _, size = parts[0].meta["val"].shape
    scale = given.get("scale")
    scale = size**-0.5 if scale is None else scale
    return Site(sources, out, int(heads), scale, given.get("attn_mask"), bool(given.get("is_causal")))


def _side_by_side(heads: fx.Node) -> Any:
    """[B, heads, S, d] = transpose(view of x [B, S, heads·d]) → x, None for anything else"""
    if not _turns(heads):
        return None
    view: Any = heads.args[0]
    if view.target not in RESHAPES or len(shape_of(view)) != 4:
        return None
    source = view.args[0]
    batch, sequence, count, size = view.meta["val"].shape
    return source if shape_of(source) == (str(batch), str(sequence), str(count * size)) else None


def _turns(node: fx.Node) -> bool:
    """Whether `node` exchanges the heads of four dimensions and the sequence"""
    if node.target is aten.permute.default:
        return node.args[1] == [0, 2, 1, 3]
    return node.target is aten.transpose.int and {int(dim) % 4 for dim in node.args[1:]} == {1, 2}  # type: ignore


def _joined(node: fx.Node) -> fx.Node | None:
    """[B, heads, S, d] → where it is read as [B, S, heads·d] again, None if it is read in any other way"""
    full, turned = shape_of(node), False
    if len(full) != 4:
        return None
    here, user = node, only_user(node)
    while user is not None:
        if _turns(user) and not turned:
            turned = True
        elif user.target in RESHAPES and turned and len(shape_of(user)) == 3:
            heads, size = node.meta["val"].shape[1], node.meta["val"].shape[3]
            return user if shape_of(user) == (full[0], full[2], str(heads * size)) else None
        elif user.target not in (*RESHAPES, *COPIES) or shape_of(user) != shape_of(here):
            return None
        here, user = user, only_user(user)
    return None


def _whole(sources: list[fx.Node]) -> fx.Node | None:
    """x, of which `sources` are the first, second and third third, None for anything else"""
    split = sources[0].args[0] if sources[0].target is operator.getitem else None
    thirds = [source.target is operator.getitem and source.args == (split, at) for at, source in enumerate(sources)]
    if not isinstance(split, fx.Node) or split.target is not aten.split.Tensor or not all(thirds):
        return None
    x: Any = split.args[0]
    across = split.args[2:] in ((-1,), (2,)) and len(shape_of(x)) == 3
    return x if across and x.meta["val"].shape[2] == 3 * split.args[1] else None  # type: ignore[operator]


def _rewrite(
    gm: fx.GraphModule, node: fx.Node, site: Site, size: tuple[fx.Node, fx.Node], keys: Keys, made: Attention
) -> None:
    graph = gm.graph
    with graph.inserting_before(node):
        flat = flat_of(graph, site)
        name = add_module(gm, "attention", made)
        call = graph.call_module(name, (flat, *keys))
        put_back(graph, site, call, size)
    erase_chain(node, site.out)


def flat_of(graph: fx.Graph, site: Site) -> fx.Node:
    """→ query, key and value side by side [B·S, 3H]"""
    value = site.out.meta["val"]
    width = value.shape[2]
    cat = _whole(site.sources)
    if cat is None:
        cat = graph.call_function(aten.cat.default, (site.sources, -1))
        cat.meta["val"] = value.new_empty((*value.shape[:2], 3 * width))
    return graph.call_function(aten.reshape.default, (cat, [-1, 3 * width]))


def put_back(graph: fx.Graph, site: Site, rows: fx.Node, size: tuple[fx.Node, fx.Node]) -> None:
    """Whatever reads the attention reads `rows`, [B·S, H], as [B, S, H]."""
    back = graph.call_function(aten.reshape.default, (rows, [*size, site.out.meta["val"].shape[2]]))
    back.meta["val"] = site.out.meta["val"]
    site.out.replace_all_uses_with(back)


def erase_chain(node: fx.Node, last: fx.Node) -> None:
    """Erases the chain from `node` to `last`: attention counts as impure, and no cleaning would take it."""
    chain = [node]
    while chain[-1] is not last:
        chain.append(next(iter(chain[-1].users)))
    for dead in reversed(chain):
        dead.graph.erase_node(dead)


def _padded(gm: fx.GraphModule, size: tuple[fx.Node, fx.Node], masked: bool) -> Keys:
    """→ starts int32 [B + 1] of sequences that all have the full length, and keep bool [B·S] (None: not masked)"""
    graph, (batch, sequence) = gm.graph, size
    keep = None
    with graph.inserting_after(sequence):
        count = graph.call_function(operator.add, (batch, 1))
    mask = next((node for node in graph.find_nodes(op="placeholder") if node.name == MASK), None)
    device = next(node for node in graph.find_nodes(op="placeholder") if shape_of(node)).meta["val"].device
    with graph.inserting_after(count):
        steps = graph.call_function(aten.arange.default, (count,), {"dtype": torch.int32, "device": device})
    with graph.inserting_after(steps):
        starts = graph.call_function(aten.mul.Tensor, (steps, sequence))
    if masked and mask is not None:
        with graph.inserting_after(starts):
            real = graph.call_function(aten.ne.Scalar, (mask, 0))
        with graph.inserting_after(real):
            keep = graph.call_function(aten.reshape.default, (real, [-1]))
    return starts, keep
