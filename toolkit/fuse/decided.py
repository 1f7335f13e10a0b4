"""What decides the value of a node: parameters, sizes, and nothing that anyone writes to; and that value, where it is
known."""

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from targets._memory import name_of, sharing
from toolkit.fuse.exposed import Exposed
from toolkit.fuse.mask import needed
from toolkit.fuse.matching import module_of, parameter

# nobody knows what is in one of these
EMPTY = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}


def is_function(node: fx.Node) -> bool:
    """Whether the value of `node` is decided by what it is given; if it writes to that, that is exposed"""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    decided = torch.Tag.nondeterministic_seeded not in node.target.tags and operator_name(node) not in EMPTY
    return decided and node.target.namespace == "aten" and bool(node.target._schema.returns)


def operator_name(node: fx.Node) -> str:
    return name_of(node.target) if isinstance(node.target, torch._ops.OpOverload) else ""


def written_to(gm: fx.GraphModule) -> set[Any]:
    """→ the names of the parameters that the graph writes to, or to others over their memory"""
    exposed = Exposed(returned=False)
    found = [node for node in gm.graph.find_nodes(op="get_attr") if exposed(node)]
    return {node.target for node in sharing(*found) if node.op == "get_attr"}


def above(node: fx.Node, inside: Collection[fx.Node]) -> set[fx.Node]:
    """→ `node` and what it is computed from, as far as that is inside"""
    found, todo = {node}, [node]
    while todo:
        fresh = [source for source in todo.pop().all_input_nodes if source in inside and source not in found]
        found.update(fresh)
        todo.extend(fresh)
    return found


def values_of(gm: fx.GraphModule, wanted: Collection[fx.Node]) -> dict[fx.Node, Any]:
    """wanted: nodes and all that they are computed from, parameters at last → the value of each"""
    values: dict[fx.Node, Any] = {}
    for node in gm.graph.nodes:
        if node in wanted:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            called: Any = module_of(gm, node) or node.target
            with torch.no_grad():
                values[node] = parameter(gm, node) if node.op == "get_attr" else called(*args, **kwargs)
    return values


def value_of(gm: fx.GraphModule, node: fx.Node) -> Any:
    """→ the value of `node`, None where operators and parameters alone do not decide it"""
    wanted = needed(node)
    known = all(is_function(one) or isinstance(parameter(gm, one), Tensor) for one in wanted)
    return values_of(gm, wanted)[node] if known else None


class Numbers:
    """The same number for nodes that are computed alike, of the same inputs and parameters or of equal single values"""

    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm = gm
        self.texts: dict[str, int] = {}
        self.known: dict[fx.Node, int] = {}

    def of(self, node: fx.Node) -> int:
        for one in needed(node):
            if one not in self.known:
                self.known[one] = self.texts.setdefault(self._text(one), len(self.texts))
        return self.known[node]

    def _text(self, node: fx.Node) -> str:
        held = parameter(self.gm, node)
        if held is not None and held.numel() == 1:
            return f"{held.dtype} {held.tolist()} {held.shape}"
        args = fx.node.map_arg((node.args, node.kwargs), lambda source: f"%{self.known[source]}")
        return f"{node.target} {args}" if _is_pure(node) else node.name


def _is_pure(node: fx.Node) -> bool:
    """Whether all nodes of this target and these arguments have the same value"""
    if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
        return False
    plain = getattr(node.target, "__module__", None) in ("_operator", "math")
    return plain or node.op in ("get_attr", "placeholder") or is_function(node)
