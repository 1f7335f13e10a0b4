"""All layers between the embeddings and the head as one module: a graph of many small calls waits for each of them."""

from typing import Any, NamedTuple

from torch import fx

from targets._attention import AttentionRows
from targets._fused import FeedForward, Layers
from toolkit.fuse.matching import add_module, calls, mark_rows, module_of, only_user, part_of, sites


class Layer(NamedTuple):
    """The calls of a layer's modules."""

    attention: fx.Node
    feed_forward: fx.Node


def fuse_layers(gm: fx.GraphModule) -> int:
    """rows = AttentionRows(qkv, starts, keep); residual', qkv' = FeedForward(rows, residual);
    rows' = AttentionRows'(qkv', starts, keep); y = FeedForward'(rows', residual'); and so on
    → y = Layers(qkv, residual, starts, keep), and table and places, where attention has them

    Two layers at least, of modules that are called once, whose attention is alike but for its levels; a layer that
    others read too ends what is put together.
    → how many layers
    """
    fused = 0
    for layers in _chains(gm):
        if len(layers) > 1:
            _replace(gm, layers)
            fused += len(layers)
    return fused


def _chains(gm: fx.GraphModule) -> list[list[Layer]]:
    """→ layers that follow each other, in the graph's order"""
    once = {nodes[0] for kind in (AttentionRows, FeedForward) for nodes in sites(gm, kind).values() if len(nodes) == 1}
    chains: list[list[Layer]] = []
    for attention in calls(gm, AttentionRows):
        part = only_user(attention)
        if part is None or not {attention, part} <= once or part.args[0] is not attention:
            continue
        layer = Layer(attention, part)
        if chains and _follows(gm, layer, chains[-1][-1]):
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains


def _follows(gm: fx.GraphModule, layer: Layer, before: Layer) -> bool:
    """Whether `layer` alone reads what the one before it gives, and looks at the same tokens"""
    part = module_of(gm, before.feed_forward)
    alike = _attention(gm, layer) == _attention(gm, before)
    if not isinstance(part, FeedForward) or part.then is None or not alike:
        return False
    y, qkv = (part_of(before.feed_forward, index) for index in (0, 1))
    return (
        len(before.feed_forward.users) == 2
        and y is not None
        and qkv is not None
        and only_user(y) is layer.feed_forward
        and only_user(qkv) is layer.attention
        and layer.attention.args == (qkv, *before.attention.args[1:])
        and layer.feed_forward.args == (layer.attention, y)
    )


def _attention(gm: fx.GraphModule, layer: Layer) -> tuple[Any, ...]:
    """→ how the layer's attention computes, without the levels of its result"""
    heads, scale, symmetric, _, _, *ways = gm.get_submodule(str(layer.attention.target)).settings()  # type: ignore[operator]
    return heads, scale, symmetric, *ways


def _replace(gm: fx.GraphModule, layers: list[Layer]) -> None:
    first, last = layers[0], layers[-1]
    attentions = [gm.get_submodule(str(layer.attention.target)) for layer in layers]
    parts = [gm.get_submodule(str(layer.feed_forward.target)) for layer in layers]
    name = add_module(gm, "layers", Layers(attentions, parts))  # type: ignore[arg-type]
    qkv, *tokens = first.attention.args
    with gm.graph.inserting_before(last.feed_forward):
        call = mark_rows(gm.graph.call_module(name, (qkv, first.feed_forward.args[1], *tokens)))
    last.feed_forward.replace_all_uses_with(call)
