"""Attention as one module on packed heads, and with what it is quantized."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx

from targets._attention import Attention, AttentionRows
from targets._fused import Quantize
from targets._missed import found_a_way, miss
from toolkit.fuse.heads import Site, match, match_heads
from toolkit.fuse.mask import CAUSAL, MASK, PADDING, kind_of
from toolkit.fuse.matching import add_module, aten, calls, module_of, only_user, shape_of, sizes
from toolkit.fuse.rotary import ROTARY, joined
from toolkit.fuse.thirds import SPLITS
from toolkit.fuse.turns import SDPA

Keys = tuple[fx.Node, fx.Node | None]


def fuse_attention(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(heads of q, of k, of v, padding or causal mask), heads side by side again
    → Attention(q, k and v side by side [B·S, 3H], starts, keep), back to [B, S, H]

    starts: where each sequence begins, keep: which tokens are real (None without a mask). Any other mask is left alone.
    """
    return _fuse(gm, match, partial(miss, gm, "attention"))


def fuse_heads(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(q, k, v [B, heads, S, d] made in another way, padding or causal mask)
    → Attention(their heads side by side [B·S, 3H], starts, keep), back to [B, S, H]

    For keys and values that several heads share (Llama 3). A copy of the three is cheaper than PyTorch's attention on a
    CPU.
    """
    return _fuse(gm, match_heads, lambda name, why: None)  # fuse_attention has said why already


def _fuse(gm: fx.GraphModule, matched: Callable[[fx.Node], Site | None], leave: Callable[[str, str], None]) -> int:
    masks: dict[Any, str | None] = {None: PADDING}
    keys: dict[Any, Keys] = {}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA):
        site = matched(node)
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None:
            leave(node.name, "it is not plain attention over heads of one sequence")
            continue
        if site.mask not in masks:
            masks[site.mask] = kind_of(gm, site.mask)
        kind = masks[site.mask]
        if kind is None:
            leave(node.name, "its mask is neither the padding's nor causal")
            continue
        masked = site.mask is not None
        if (size, masked) not in keys:
            keys[size, masked] = padded(gm, size, masked)
        made = Attention(site.heads, site.scale, causal=site.causal or kind == CAUSAL)
        _rewrite(gm, node, site, size, keys[size, masked], made)
        found_a_way(gm, node.name)
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


def _whole(sources: list[fx.Node]) -> fx.Node | None:
    """x, of which `sources` are the first, second and third part, None for anything else"""
    split = sources[0].args[0] if sources[0].target is operator.getitem else None
    thirds = [source.target is operator.getitem and source.args == (split, at) for at, source in enumerate(sources)]
    if not isinstance(split, fx.Node) or split.target not in SPLITS or not all(thirds):
        return None
    x: Any = split.args[0]
    across = split.args[2:] in ((-1,), (2,)) and len(shape_of(x)) == 3
    return x if across and len(split.meta["val"]) == 3 else None


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
    """→ query, key and value side by side, [B·S, 3H] where all have as many heads"""
    value = site.out.meta["val"]
    sources, angles, named = joined(graph, site.sources)
    cat = _whole(sources)
    if cat is None:
        parts = [_put_side_by_side(graph, part) if len(shape_of(part)) == 4 else part for part in sources]
        cat = graph.call_function(aten.cat.default, (parts, -1))
        cat.meta["val"] = value.new_empty((*value.shape[:2], sum(part.meta["val"].shape[2] for part in parts)))
    whole = cat.meta["val"]
    if angles:
        cat = graph.call_function(ROTARY, (cat, *angles), named)
        cat.meta["val"] = whole
    return graph.call_function(aten.reshape.default, (cat, [-1, whole.shape[2]]))


def _put_side_by_side(graph: fx.Graph, heads: fx.Node) -> fx.Node:
    """[B, heads, S, d] → [B, S, heads·d]"""
    value = heads.meta["val"].transpose(1, 2)
    turned = graph.call_function(aten.transpose.int, (heads, 1, 2))
    flat = graph.call_function(aten.flatten.using_ints, (turned, 2))
    turned.meta["val"], flat.meta["val"] = value, value.flatten(2)
    return flat


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


def padded(gm: fx.GraphModule, size: tuple[fx.Node, fx.Node], masked: bool) -> Keys:
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
