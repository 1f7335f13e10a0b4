"""Attention whose scores something is added to, a bias by distance or any mask, as one module on packed heads."""

from typing import Any

import torch
from torch import fx

from targets._attention import BiasedAttention
from targets._missed import found_a_way
from toolkit.fuse.attention import SDPA, erase_chain, flat_of, put_back
from toolkit.fuse.heads import Site, match, match_heads
from toolkit.fuse.mask import kind_of
from toolkit.fuse.matching import add_module, aten, broadcasts, shape_of, sizes


def fuse_biased(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(q, k, v [B, heads, S, d], mask), heads side by side again
    → BiasedAttention(q, k and v side by side [B·S, 3H], mask in float32), back to [B, S, H]

    For masks that are no padding's and not causal: distances between tokens (MPNet), a window of tokens (ModernBERT).
    A boolean one becomes 0 and -inf, once for all layers that share it.
    """
    biases: dict[fx.Node, fx.Node | None] = {}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA):
        site = match(node) or match_heads(node)
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None or site.causal or not _fits(site):
            continue
        if site.mask not in biases:
            with gm.graph.inserting_before(node):
                biases[site.mask] = _bias(gm.graph, site.mask) if kind_of(gm, site.mask) is None else None
        bias = biases[site.mask]
        if bias is None:  # what is left of other masks was to be left
            continue
        with gm.graph.inserting_before(node):
            name = add_module(gm, "attention", BiasedAttention(site.heads, site.scale))
            call = gm.graph.call_module(name, (flat_of(gm.graph, site), bias))
            put_back(gm.graph, site, call, size)
        erase_chain(node, site.out)
        found_a_way(gm, node.name)  # which fuse_attention has not
        fused += 1
    return fused


def _fits(site: Site) -> bool:
    """Whether the mask is [B or 1, heads or 1, S or 1, S], of fewer dimensions where the first are 1"""
    batch, sequence, _ = shape_of(site.out)
    have = shape_of(site.mask)
    full = (batch, str(site.heads), sequence, sequence)
    return len(have) >= 2 and have[-1] == sequence and broadcasts(have, full)


def _bias(graph: fx.Graph, mask: fx.Node) -> fx.Node:
    """→ `mask` in float32 with four dimensions"""
    value: Any = mask.meta["val"]
    if value.dtype == torch.bool:
        low = graph.call_function(aten.scalar_tensor.default, (-torch.inf,), {"dtype": torch.float32})
        nothing = graph.call_function(aten.scalar_tensor.default, (0.0,), {"dtype": torch.float32})
        made = graph.call_function(aten.where.self, (mask, nothing, low))
    else:
        made = graph.call_function(aten.to.dtype, (mask, torch.float32))
    for _ in range(4 - value.dim()):
        made = graph.call_function(aten.unsqueeze.default, (made, 0))
    return made
