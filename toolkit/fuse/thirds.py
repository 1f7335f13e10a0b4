"""Query, key and value that one linear makes: however a model tells them apart, three parts of its columns."""

import math
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from targets._memory import VIEWS
from toolkit.fuse.heads import COPIES, RESHAPES
from toolkit.fuse.matching import aten, calls, module_of, shape_of
from toolkit.fuse.stacked import STACKABLE, picked

SPLITS = (aten.split.Tensor, aten.split_with_sizes.default)
SEVERAL = {*SPLITS, aten.chunk.default, aten.unbind.int}  # several tensors at once
STEPS = {*VIEWS, *RESHAPES, *COPIES, *SEVERAL, operator.getitem}
MOST_STEPS = 6  # from the linear to its parts
TRIED = 2, 3  # batch and sequence that the steps are tried on
Shape = tuple[str, ...]


class Part(NamedTuple):
    """What is read as one third: columns int64 [heads·d] of the linear, in its order; where it has heads, batch and
    sequence as a view takes them; whether the heads stand before the sequence"""

    node: fx.Node
    columns: Tensor
    sizes: list[Any] | None
    turned: bool


def split_thirds(gm: fx.GraphModule) -> int:
    """three parts of y = linear(x) [B, S, W], by any views, each of all tokens and some columns: along a dimension of
    their own (ModernBERT), slices (Phi-3), mixed head by head (GPT-NeoX, Bloom)
    → the same views of split(linear'(x), [W0, W1, W2], -1), whose outputs stand in the order of the parts

    Exact: each output of a linear has a row of weights of its own. Where the order is another, nothing but these parts
    reads y, and it is the linear's only call.
    """
    done = 0
    for node in list(gm.graph.nodes):
        parts = _parts(node)
        if parts is None:
            continue
        order = torch.cat([part.columns for part in parts])
        if not torch.equal(order, torch.arange(len(order))):
            linear = module_of(gm, node)
            if type(linear) not in STACKABLE or len(_calls_of(gm, node)) > 1:
                continue
            gm.set_submodule(str(node.target), picked(linear, order).eval())
        _rewrite(gm.graph, node, parts)
        done += 1
    return done


def _calls_of(gm: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    module = module_of(gm, node)
    return [other for other in calls(gm, type(module)) if module_of(gm, other) is module]  # type: ignore[arg-type]


def _parts(node: fx.Node) -> list[Part] | None:
    """→ the three parts of `node` in the order of their first columns; None where it has no such parts, or they are
    a split's already"""
    shape = shape_of(node)
    for ends in _threes(node) if len(shape) == 3 and shape[2].isdigit() else ():
        if all(end.args[0].target in SPLITS and _splits_columns(end.args[0], node) for end in ends):
            return None
        parts = [_part(end, _tried(end, node), shape) for end in ends]
        found = sorted((part for part in parts if part is not None), key=lambda part: int(part.columns.min()))
        if len(found) == 3:
            every = torch.cat([part.columns for part in found]).sort().values
            if torch.equal(every, torch.arange(int(shape[2]))):
                return found
    return None


def _splits_columns(split: Any, node: fx.Node) -> bool:
    return split.args[0] is node and split.args[2:] in ((-1,), (2,))


def _threes(node: fx.Node) -> Iterator[list[Any]]:
    """→ three nodes that all readers of `node` lead to by as many STEPS, the nearest first"""
    here = [node]
    for _ in range(MOST_STEPS):
        here = [user for one in here for user in one.users]
        if not 0 < len(here) <= 3 or any(one.target not in STEPS or one.kwargs for one in here):
            return
        if len(here) == 3 and not any(one.target in SEVERAL for one in here):
            yield here


def _tried(end: fx.Node, source: fx.Node) -> Tensor | None:
    """→ what `end` is where `source` is 0, 1, 2, ...; None where a step wants a size or a place that is not of TRIED"""
    shape = shape_of(source)
    known, count = dict(zip(shape[:2], TRIED, strict=True)), math.prod(TRIED) * int(shape[2])

    def value(node: fx.Node) -> Any:
        if node is source:
            return torch.arange(count).view(*TRIED, -1)
        if isinstance(node.meta.get("val"), torch.SymInt):
            return known[str(node.meta["val"])]
        if node.op != "call_function":
            raise KeyError(node.name)
        return run(node)

    def run(node: fx.Node) -> Any:
        return node.target(*fx.node.map_arg(node.args, value))  # type: ignore[operator]

    try:
        return run(end)  # type: ignore[no-any-return]
    except (KeyError, RuntimeError, IndexError):
        return None


def _part(end: fx.Node, tried: Tensor | None, full: Shape) -> Part | None:
    """→ what `end` is of a node of the shape `full`, None unless it has the same columns of each token"""
    shape = shape_of(end)
    turned = len(shape) == 4 and shape[:3:2] == full[:2] and shape[1].isdigit()
    if tried is None or tried.dim() not in (3, 4) or not (turned or shape[:2] == full[:2]):
        return None
    rows = (tried.transpose(1, 2) if turned else tried).flatten(2)
    if rows.shape[:2] != TRIED or not rows.numel():
        return None
    columns, first = rows[0, 0], torch.arange(math.prod(TRIED)).view(*TRIED, 1) * int(full[2])
    sizes = _sizes(end, full) if len(shape) == 4 else None
    known = sizes is not None or len(shape) == 3
    return Part(end, columns, sizes, turned) if known and torch.equal(rows, first + columns) else None


def _rewrite(graph: fx.Graph, node: fx.Node, parts: list[Part]) -> None:
    widths, whole = [len(part.columns) for part in parts], node.meta["val"]
    with graph.inserting_after(node):
        split = graph.call_function(aten.split_with_sizes.default, (node, widths, -1))
    split.meta["val"] = whole.split(widths, -1)
    for number, part in enumerate(parts):
        with graph.inserting_before(part.node):
            made = graph.call_function(operator.getitem, (split, number))
            made.meta["val"] = split.meta["val"][number]
            if part.sizes is not None:
                made = _heads(graph, made, part)
        part.node.replace_all_uses_with(made)


def _heads(graph: fx.Graph, rows: fx.Node, part: Part) -> fx.Node:
    """rows [B, S, heads·d] → as the part is, [B, S, heads, d] or [B, heads, S, d]"""
    value = part.node.meta["val"].transpose(1, 2) if part.turned else part.node.meta["val"]
    made = graph.call_function(aten.view.default, (rows, [*part.sizes, *value.shape[2:]]))  # type: ignore[misc]
    made.meta["val"] = value
    if part.turned:
        made = graph.call_function(aten.transpose.int, (made, 1, 2))
        made.meta["val"] = part.node.meta["val"]
    return made


def _sizes(end: Any, full: Shape) -> list[Any] | None:
    """→ batch and sequence as a view has them on the way to `end`, of a node of the shape `full`; None without one"""
    while end.target in STEPS:
        if end.target in RESHAPES and shape_of(end)[:2] == full[:2]:
            return list(end.args[1][:2])
        end = end.args[0]
    return None
