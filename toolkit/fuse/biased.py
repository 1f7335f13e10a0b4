"""Attention whose scores something is added to, a bias by distance or any mask, as one module on packed heads."""

from typing import Any

import torch
from torch import fx

from targets._attention import Attention, BiasedAttention
from targets._missed import found_a_way
from toolkit.fuse.attention import SDPA, erase_chain, flat_of, padded, put_back
from toolkit.fuse.heads import Site, match, match_heads
from toolkit.fuse.mask import kind_of
from toolkit.fuse.matching import add_module, aten, broadcasts, shape_of, sizes
from toolkit.fuse.tables import table_of


def fuse_biased(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(q, k, v [B, heads, S, d], mask), heads side by side again
    → Attention(q, k and v side by side [B·S, 3H], starts, keep, table), back to [B, S, H], where the mask is one of
    padding and a table of positions, [1, heads or 1, S, S]
    → BiasedAttention(q, k and v side by side, mask in float32), back to [B, S, H], where it is any other

    For masks that are no padding's alone and not causal: distances between tokens (MPNet), a window of tokens
    (ModernBERT). A boolean one becomes 0 and -inf, once for all layers that share it.
    """
    found: dict[Any, tuple[fx.Node, ...] | None] = {}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA):
        site = match(node) or match_heads(node)
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None or site.causal or not _fits(site):
            continue
        if (site.mask, size) not in found:
            with gm.graph.inserting_before(node):
                found[site.mask, size] = _arguments(gm, site.mask, size)
        given = found[site.mask, size]
        if given is None:  # what is left of other masks was to be left
            continue
        with gm.graph.inserting_before(node):
            made = BiasedAttention if len(given) == 1 else Attention
            name = add_module(gm, "attention", made(site.heads, site.scale))
            call = gm.graph.call_module(name, (flat_of(gm.graph, site), *given))
            put_back(gm.graph, site, call, size)
        erase_chain(node, site.out)
        found_a_way(gm, node.name)  # which fuse_attention has not
        fused += 1
    return fused


def _arguments(gm: fx.GraphModule, mask: fx.Node, size: tuple[fx.Node, fx.Node]) -> tuple[Any, ...] | None:
    """→ starts, keep and table for an Attention, the bias alone for a BiasedAttention, None to leave it alone"""
    if kind_of(gm, mask) is not None:
        return None
    value: Any = mask.meta["val"]
    table = table_of(gm, mask)
    if table is None:
        return (_bias(gm.graph, mask, value),)
    added = gm.graph.call_function(aten.contiguous.default, (_bias(gm.graph, table, value),))
    return (*padded(gm, size, masked=True), added)


def _fits(site: Site) -> bool:
    """Whether the mask is [B or 1, heads or 1, S or 1, S], of fewer dimensions where the first are 1"""
    batch, sequence, _ = shape_of(site.out)
    have = shape_of(site.mask)
    full = (batch, str(site.heads), sequence, sequence)
    return len(have) >= 2 and have[-1] == sequence and broadcasts(have, full)


def _bias(graph: fx.Graph, mask: fx.Node, value: Any) -> fx.Node:
    """→ `mask` in float32 with four dimensions; value: of its dtype, with as many dimensions"""
    if value.dtype == torch.bool:
        low = graph.call_function(aten.scalar_tensor.default, (-torch.inf,), {"dtype": torch.float32})
        nothing = graph.call_function(aten.scalar_tensor.default, (0.0,), {"dtype": torch.float32})
        made = graph.call_function(aten.where.self, (mask, nothing, low))
    else:
        made = graph.call_function(aten.to.dtype, (mask, torch.float32))
    for _ in range(4 - value.dim()):
        made = graph.call_function(aten.unsqueeze.default, (made, 0))
    return made
