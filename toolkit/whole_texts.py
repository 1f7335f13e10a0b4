"""A graph with a cache → the graph of whole texts that it is without one: for files, and for whoever runs those."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from toolkit.cache import OUTPUT, CacheError
from toolkit.inputs import KEY, MASK, POSITIONS, Inputs
from toolkit.rewrite import clean

aten = torch.ops.aten
# of a mask [B, S]: what inputs.complete gives as the positions of a call without any
COUNT: tuple[tuple[Any, ...], ...] = (
    (aten.ne.Scalar, 0),
    (aten.cumsum.default, 1),
    (aten.sub.Tensor, 1),
    (aten.clamp.default, 0),
)


def drop_cache(gm: fx.GraphModule) -> int:
    """cat(past, x) → x, size(past) → 0, position_ids → the real tokens counted; no cache comes in or goes out

    In place; the graph is called as the model is. → how many inputs less. Raises CacheError where the graph does
    anything else with its cache.
    """
    inputs: Inputs = gm.meta[KEY]
    if not inputs.past:
        return 0
    places = {str(node.target): node for node in gm.graph.find_nodes(op="placeholder")}
    gone = [POSITIONS, *(one.name for one in inputs.past)]
    names = tuple(name for name in inputs.names if name not in gone)
    output = gm.graph.output_node()
    output.args = (output.args[0][: -len(inputs.past)],)  # type: ignore[index]
    past = {size.node.expr: 0 for one in inputs.past if (size := _tokens(places[one.name])) is not None}
    _count(gm, places[MASK], places[POSITIONS])
    _skip(gm, {places[one.name] for one in inputs.past}, places["input_ids"])
    gm.graph.eliminate_dead_code()
    for name in gone:
        for user in places[name].users:
            raise CacheError(f"{type(gm).__name__} can't do without its cache: {user.target} reads {name}")
        gm.graph.erase_node(places[name])
    _call_with(gm, names)
    _forget(gm, past)
    gm.meta[KEY] = replace(inputs, names=names, past=())
    clean(gm)
    return len(gone)


def _tokens(past: fx.Node) -> torch.SymInt | None:
    """→ how many tokens a cache has, None for a number"""
    size = past.meta["val"].shape[2]
    return size if isinstance(size, torch.SymInt) else None


def _forget(gm: fx.GraphModule, past: dict[Any, int]) -> None:
    """The sizes that the capture noted are those with no tokens in the cache: fusions go by them."""

    def size_of(size: Any) -> Any:
        if not isinstance(size, torch.SymInt):
            return size
        left = size.node.expr.subs(past)
        return int(left) if left.is_number else size.node.shape_env.create_symintnode(left, hint=None)

    def noted(value: torch.Tensor) -> torch.Tensor:
        if not any(
            isinstance(size, torch.SymInt) and size.node.expr.free_symbols & past.keys() for size in value.shape
        ):
            return value
        return value.new_empty([size_of(size) for size in value.shape])

    for node in gm.graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map_only(torch.Tensor, noted, node.meta["val"])


def _count(gm: fx.GraphModule, mask: fx.Node, positions: fx.Node) -> None:
    """position_ids → clamp(cumsum(mask ≠ 0) − 1, 0)"""
    top = list(gm.graph.find_nodes(op="placeholder"))[-1].next
    last = mask
    for operator, number in COUNT:
        with gm.graph.inserting_before(top):
            made = gm.graph.call_function(operator, (last, number))
        made.meta["val"] = operator(last.meta["val"], number)
        last = made
    last.meta["val"] = positions.meta["val"]
    positions.replace_all_uses_with(last)


def _skip(gm: fx.GraphModule, empty: set[fx.Node], ids: fx.Node) -> None:
    """empty: nodes of [batch, heads, 0, size] → what appends to them is what is appended, and their tokens are 0"""
    for node in gm.graph.nodes:
        if node.target is aten.sym_size.int and node.args[0] in empty:
            if node.args[1] == 0:
                node.args = (ids, 0)
            elif node.args[1] == 2:
                _put_0(node)
        elif node.target is aten.cat.default and empty.intersection(node.args[0]):
            parts = [part for part in node.args[0] if part not in empty]
            if not parts:
                empty.add(node)
            elif len(parts) == 1:
                node.replace_all_uses_with(parts[0])
            else:
                node.args = (parts, *node.args[1:])


def _put_0(size: fx.Node) -> None:
    """Whatever uses the node `size` has the number 0 in its place."""

    def without(given: fx.Node) -> Any:
        return 0 if given is size else given

    for user in list(size.users):
        user.args = fx.node.map_arg(user.args, without)


def _call_with(gm: fx.GraphModule, names: Sequence[str]) -> None:
    """The graph is called with `names`, and its output has no field for a cache."""
    info: Any = gm.graph._codegen.pytree_info  # type: ignore[attr-defined]
    whole = pytree.tree_unflatten([torch.empty(0)] * info.out_spec.num_leaves, info.out_spec)
    made = type(whole)(**{name: value for name, value in whole.items() if name != OUTPUT})
    specs = (pytree.tree_structure(value) for value in (((), dict.fromkeys(names, 0)), made))
    gm.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(list(names), *specs)))
