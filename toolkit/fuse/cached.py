"""Attention to earlier tokens, whose keys and values come in and go out: one module on packed heads."""

import operator
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from targets._attention import CachedAttention
from targets._missed import found_a_way, miss
from toolkit.fuse.attention import SDPA, erase_chain, flat_of, put_back
from toolkit.fuse.heads import RESHAPES, Site, match
from toolkit.fuse.mask import CAUSAL, MASK, kind_of, window_of
from toolkit.fuse.matching import add_module, aten, calls, module_of, only_user, shape_of, sizes
from toolkit.inputs import KEY, Inputs

Window = int | None  # how many tokens each looks at: 0 for all up to itself, None where that is not what a mask says


def fuse_cached(gm: fx.GraphModule) -> int:
    """keys = cat(past_key, heads of k), values = cat(past_value, heads of v),
    scaled_dot_product_attention(heads of q, keys, values, causal mask), heads side by side again
    → y, keys, values = CachedAttention(q, k and v side by side [B·S, 3H], past_key, past_value, attention_mask),
    y back to [B, S, H]

    Keys and values may have fewer heads, each repeated for several of q: they are not, then. A causal mask may show
    each token a window of those before it. Any other is left alone.
    """
    inputs = gm.meta.get(KEY)
    past = {one.name for one in inputs.past} if isinstance(inputs, Inputs) else set[str]()
    mask = next((node for node in gm.graph.find_nodes(op="placeholder") if node.name == MASK), None)
    windows: dict[Any, Window] = {None: None}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA) if past and mask else []:
        wholes = {part: _unrepeated(part) for part in node.args[1:3]}
        appends: list[Any] = [whole for whole in wholes.values() if _appends(whole, past)]
        site = match(node, {part: whole.args[0][1] for part, whole in wholes.items() if whole in appends})
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None or len(set(appends)) < 2:
            miss(gm, "cached", node.name, "it is not plain attention over heads with a cache")
            continue
        if site.mask not in windows:
            windows[site.mask] = _window(gm, site.mask)
        window = windows[site.mask]
        if window is None:
            miss(gm, "cached", node.name, "its mask is neither causal nor a window of the last tokens")
            continue
        repeats = _repeats(node, appends)
        readers = (user for append in appends for user in append.users if user not in repeats)
        place = min(node, *readers)
        if not all(source < place for source in site.sources):
            miss(gm, "cached", node.name, "its keys or values are read before its query is there")
            continue
        made = CachedAttention(site.heads, site.scale, kept=appends[0].meta["val"].dtype, window=window or None)
        _rewrite(gm, node, place, site, size, appends, mask, repeats, made)
        found_a_way(gm, node.name)  # which fuse_attention has not
        fused += 1
    return fused


def _window(gm: fx.GraphModule, mask: fx.Node) -> Window:
    return 0 if kind_of(gm, mask) == CAUSAL else window_of(gm, mask)


def _repeats(node: fx.Node, appends: list[Any]) -> list[Any]:
    """→ what repeats the appended keys and values for `node` alone, the last first"""
    found = []
    for part in node.args[1:3]:
        while part not in appends and only_user(part) is not None:  # type: ignore[arg-type]
            found.append(part)
            part = part.args[0]  # type: ignore[union-attr]
    return found


def _rewrite(
    gm: fx.GraphModule,
    node: fx.Node,
    place: fx.Node,
    site: Site,
    size: tuple[fx.Node, fx.Node],
    appends: list[Any],
    mask: Any,
    repeats: list[Any],
    made: CachedAttention,
) -> None:
    """place: what to insert before; appends: the two cat, of keys and of values; repeats: see _repeats"""
    pasts = [append.args[0][0] for append in appends]
    with gm.graph.inserting_before(place):
        name = add_module(gm, "attention", made)
        call = gm.graph.call_module(name, (flat_of(gm.graph, site), *pasts, mask))
        y, *wholes = (gm.graph.call_function(operator.getitem, (call, index)) for index in range(3))
        put_back(gm.graph, site, y, size)
    erase_chain(node, site.out)
    for dead in repeats:  # which may lie before `place`
        gm.graph.erase_node(dead)
    for append, whole in zip(appends, wholes, strict=True):
        whole.meta["val"] = append.meta["val"]
        append.replace_all_uses_with(whole)
        gm.graph.erase_node(append)


def narrow_cache(gm: fx.GraphModule, to: torch.dtype = torch.bfloat16) -> int:
    """CachedAttention on float32 that may round it → the same with keys and values kept in `to`, of 16 bits, and with
    them the inputs that they come from: half of what a token reads. → how many"""
    found = [node for node in calls(gm, CachedAttention) if _may_narrow(module_of(gm, node))]
    names = {past.name for node in found for past in node.args[1:3]}  # type: ignore[union-attr]
    for node in found:
        module_of(gm, node).kept = to  # type: ignore[union-attr, assignment]
    if found:
        inputs: Inputs = gm.meta[KEY]
        past = (replace(one, dtype=to) if one.name in names else one for one in inputs.past)
        gm.meta[KEY] = replace(inputs, past=tuple(past))
    return len(found)


def _may_narrow(attention: Any) -> bool:
    return attention.kept == torch.float32 and not attention.precise


def _unrepeated(heads: Any) -> Any:
    """[B, shared·n, N, d] = view of expand(unsqueeze(x [B, shared, N, d], 2), n times) → x; else `heads` as it is"""
    wide = heads.args[0] if heads.target in RESHAPES else None
    if wide is None or wide.target is not aten.expand.default or wide.args[0].target is not aten.unsqueeze.default:
        return heads
    x, dim = wide.args[0].args
    have, repeated, full = shape_of(x), shape_of(wide), shape_of(heads)
    if dim not in (2, -3) or len(have) != 4 or repeated != (*have[:2], repeated[2], *have[2:]):
        return heads
    count = heads.meta["val"].shape[1] == x.meta["val"].shape[1] * wide.meta["val"].shape[2]
    return x if count and (full[0], *full[2:]) == (have[0], *have[2:]) else heads


def _appends(node: Any, past: set[str]) -> bool:
    """Whether `node` is cat([past, x], tokens) of an input that is a cache"""
    if node.target is not aten.cat.default or node.args[1:] not in ((-2,), (2,)) or len(node.args[0]) != 2:
        return False
    return node.args[0][0].op == "placeholder" and node.args[0][0].name in past
