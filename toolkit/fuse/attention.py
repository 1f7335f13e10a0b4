"""Attention as one module on packed heads, and its query, key and value as one linear."""

import logging
import operator
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from targets._bf16 import Bf16Linear
from targets._fp8 import Fp8Linear
from targets._fused import Attention, AttentionRows, Quantize
from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from toolkit.fuse.mask import MASK, is_padding_mask
from toolkit.fuse.matching import MERGED, add_module, aten, calls, module_of, only_user, shape_of, sites, sizes

log = logging.getLogger(__name__)

SDPA = aten.scaled_dot_product_attention.default
NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
RESHAPES = (aten.view.default, aten.reshape.default)
COPIES = (aten.contiguous.default, aten.clone.default)
STACKABLE = (QuantizedLinear, Fp8Linear, WeightLinear, nn.Linear, Bf16Linear)
Keys = tuple[fx.Node, fx.Node | None]


class Site(NamedTuple):
    """One attention: its inputs [B, S, H], its output [B, S, H], heads, scale, mask"""

    sources: list[fx.Node]
    out: fx.Node
    heads: int
    scale: float
    mask: Any


def fuse_attention(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(heads of q, heads of k, heads of v, padding mask), heads side by side again
    → Attention(q, k and v side by side [B·S, 3H], starts, keep), back to [B, S, H]

    starts: where each sequence begins, keep: which tokens are real (None without a mask). Any other mask, and an
    attention that is causal, is left alone; the log says so.
    """
    masks: dict[Any, bool] = {None: True}
    keys: dict[Any, Keys] = {}
    fused = 0
    for node in gm.graph.find_nodes(op="call_function", target=SDPA):
        site = _match(node)
        size = sizes(gm, shape_of(site.out)) if site else None
        if site is None or size is None:
            log.info("attention %s is left alone: it is not plain attention over heads of one sequence", node.name)
            continue
        if site.mask not in masks:
            masks[site.mask] = is_padding_mask(gm, site.mask)
        if not masks[site.mask]:
            log.info("attention %s is left alone: its mask is no padding mask", node.name)
            continue
        masked = site.mask is not None
        if (size, masked) not in keys:
            keys[size, masked] = _padded(gm, size, masked)
        _rewrite(gm, node, site, size, keys[size, masked])
        fused += 1
    return fused


def fuse_qkv(gm: fx.GraphModule) -> int:
    """Attention(cat(q(x), k(x), v(x)), ...) → Attention(qkv(x), ...), the three weights stacked

    Exact: weights are quantized one output channel at a time. The three are all quantized, all float or all bf16; all
    their calls are rewritten, or none.
    """
    groups = defaultdict(list)
    for node in calls(gm, Attention):
        cat = node.args[0].args[0]  # type: ignore[union-attr]
        if isinstance(cat, fx.Node) and _stackable(gm, cat):
            groups[tuple(str(part.target) for part in cat.args[0])].append(cat)  # type: ignore[union-attr]
    used = Counter({name: len(nodes) for kind in STACKABLE for name, nodes in sites(gm, kind).items()})
    fused = 0
    for names, cats in groups.items():
        if len(set(names)) < 3 or any(used[name] != len(cats) for name in names):
            continue
        parts: list[Any] = [gm.get_submodule(name) for name in names]
        merged = add_module(gm, f"{names[0].rpartition('.')[0]}.qkv".lstrip("."), stack(parts))
        gm.meta.setdefault(MERGED, {})[merged] = names
        for cat in cats:
            _call_merged(gm, cat, merged)
        fused += len(cats)
    return fused


def fuse_attention_rows(gm: fx.GraphModule) -> int:
    """Quantize(Attention(...)) → AttentionRows(...)"""
    fused = 0
    for node in calls(gm, Attention):
        user = only_user(node)
        attention, quantize = module_of(gm, node), module_of(gm, user)
        if isinstance(attention, Attention) and isinstance(quantize, Quantize) and user is not None:
            made = AttentionRows(attention.heads, attention.scale, quantize.activation)
            gm.set_submodule(str(node.target), made.eval())
            user.replace_all_uses_with(node)
            fused += 1
    return fused


def stack(parts: list[Any]) -> nn.Module:
    """Linears of one input and one kind → one with their outputs side by side; a bias that is missing is zeros."""
    bias: Tensor | None = None
    if any(part.bias is not None for part in parts):
        dtype = next(part.bias.dtype for part in parts if part.bias is not None)
        none = parts[0].weight.new_zeros(parts[0].out_features, dtype=dtype)
        bias = torch.cat([none if part.bias is None else part.bias for part in parts])
    weight = torch.cat([part.weight for part in parts])
    if isinstance(parts[0], QuantizedLinear):
        return type(parts[0])(weight, torch.cat([part.scale for part in parts]), bias, parts[0].activation)
    if isinstance(parts[0], WeightLinear):
        return WeightLinear(weight, torch.cat([part.scale for part in parts]), bias)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
    return Bf16Linear(linear) if isinstance(parts[0], Bf16Linear) else linear


def _stackable(gm: fx.GraphModule, cat: fx.Node) -> bool:
    if cat.target is not aten.cat.default or len(cat.users) > 1:
        return False
    nodes: Any = cat.args[0]
    modules = [module_of(gm, node) for node in nodes]
    if type(modules[0]) not in STACKABLE or any(type(module) is not type(modules[0]) for module in modules):
        return False
    alike = {(node.args[0], getattr(module, "activation", None)) for node, module in zip(nodes, modules, strict=True)}
    single = all(only_user(node) is cat for node in nodes)
    return single and len(alike) == 1


def _call_merged(gm: fx.GraphModule, cat: fx.Node, name: str) -> None:
    source = cat.args[0][0].args[0]  # type: ignore[index, union-attr]
    with gm.graph.inserting_before(cat):
        call = gm.graph.call_module(name, (source,))
    call.meta = dict(cat.meta)
    cat.replace_all_uses_with(call)


def _match(node: fx.Node) -> Site | None:
    given: dict[str, Any] = {**dict(zip(NAMES, node.args, strict=False)), **node.kwargs}
    if given.get("dropout_p") or given.get("is_causal") or given.get("enable_gqa"):
        return None
    parts = [given[name] for name in NAMES[:3]]
    sources, out = [_side_by_side(part) for part in parts], _joined(node)
    shapes = {shape_of(source) for source in sources}
    if out is None or None in sources or shapes != {shape_of(out)}:
        return None
    _, heads, _, size = parts[0].meta["val"].shape
    scale = given.get("scale")
    return Site(sources, out, int(heads), size**-0.5 if scale is None else scale, given.get("attn_mask"))


def _side_by_side(heads: fx.Node) -> Any:
    """[B, heads, S, d] = transpose(view of x [B, S, heads·d]) → x, None for anything else"""
    if heads.target is not aten.transpose.int or {int(dim) % 4 for dim in heads.args[1:]} != {1, 2}:  # type: ignore
        return None
    view: Any = heads.args[0]
    if view.target not in RESHAPES or len(shape_of(view)) != 4:
        return None
    source = view.args[0]
    batch, sequence, count, size = view.meta["val"].shape
    return source if shape_of(source) == (str(batch), str(sequence), str(count * size)) else None


def _joined(node: fx.Node) -> fx.Node | None:
    """[B, heads, S, d] → where it is read as [B, S, heads·d] again, None if it is read in any other way"""
    full, turned = shape_of(node), False
    if len(full) != 4:
        return None
    here, user = node, only_user(node)
    while user is not None:
        if user.target is aten.transpose.int and not turned and {int(d) % 4 for d in user.args[1:]} == {1, 2}:  # type: ignore
            turned = True
        elif user.target in RESHAPES and turned and len(shape_of(user)) == 3:
            heads, size = node.meta["val"].shape[1], node.meta["val"].shape[3]
            return user if shape_of(user) == (full[0], full[2], str(heads * size)) else None
        elif user.target not in (*RESHAPES, *COPIES) or shape_of(user) != shape_of(here):
            return None
        here, user = user, only_user(user)
    return None


def _rewrite(gm: fx.GraphModule, node: fx.Node, site: Site, size: tuple[fx.Node, fx.Node], keys: Keys) -> None:
    graph, value = gm.graph, site.out.meta["val"]
    width = value.shape[2]
    with graph.inserting_before(node):
        cat = graph.call_function(aten.cat.default, (site.sources, -1))
        cat.meta["val"] = value.new_empty((*value.shape[:2], 3 * width))
        flat = graph.call_function(aten.reshape.default, (cat, [-1, 3 * width]))
        name = add_module(gm, "attention", Attention(site.heads, site.scale))
        call = graph.call_module(name, (flat, *keys))
        back = graph.call_function(aten.reshape.default, (call, [*size, width]))
        back.meta["val"] = value
    site.out.replace_all_uses_with(back)
    _erase(node, site.out)


def _erase(node: fx.Node, last: fx.Node) -> None:
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
