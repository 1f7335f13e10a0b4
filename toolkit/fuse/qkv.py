"""Linears that read the same and are attended to together: one linear, their weights stacked."""

from collections import Counter, defaultdict
from typing import Any

from torch import fx

from targets._attention import Attention, BiasedAttention, CachedAttention
from targets._disentangled import DisentangledAttention
from toolkit.fuse.matching import MERGED, add_module, aten, calls, module_of, only_user, sites
from toolkit.fuse.rotary import ROTARY
from toolkit.fuse.stacked import STACKABLE, stack

ATTENTIONS = (Attention, BiasedAttention, CachedAttention, DisentangledAttention)


def fuse_qkv(gm: fx.GraphModule) -> int:
    """Attention(cat(q(x), k(x), v(x)), ...) → Attention(qkv(x), ...), the three weights stacked

    Where rotary comes in between, too. Exact: weights are quantized one output channel at a time. The three are all
    quantized, all float or all bf16; all their calls are rewritten, or none.
    """
    groups = defaultdict(list)
    for node in (node for kind in ATTENTIONS for node in calls(gm, kind)):
        cat = node.args[0].args[0]  # type: ignore[union-attr]
        cat = cat.args[0] if cat.target is ROTARY else cat  # type: ignore[union-attr]
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
