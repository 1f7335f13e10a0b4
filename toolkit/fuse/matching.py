"""What the fusions share: reading nodes, marking those that are rows of tokens, adding modules."""

import operator
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten
ROWS = "opswap_rows"  # in the meta of a node whose value is [T, ...], one row a token, or rows as a tuple
MERGED = "opswap_merged"  # in the meta of a graph: for each linear that was made of others, its name and theirs
SIZE = "opswap_size"  # in the meta of the nodes that `sizes` made, the shape they are of


def shape_of(node: Any) -> tuple[str, ...]:
    """→ the sizes that the capture noted for `node`, as text (symbols compare by name); () if there are none"""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(str(size) for size in value.shape) if isinstance(value, Tensor) else ()


def broadcasts(shape: tuple[str, ...], full: tuple[str, ...]) -> bool:
    """Whether a tensor of `shape` is repeated to `full` without making it larger"""
    pairs = zip(reversed(shape), reversed(full), strict=False)
    return len(shape) <= len(full) and all(have in ("1", want) for have, want in pairs)


def is_rows(node: Any) -> bool:
    return isinstance(node, fx.Node) and ROWS in node.meta


def mark_rows(node: fx.Node) -> fx.Node:
    """Notes that `node` has one row a token now; the shape that the capture noted is no longer true."""
    node.meta.pop("val", None)
    node.meta[ROWS] = True
    return node


def module_of(gm: fx.GraphModule, node: Any) -> nn.Module | None:
    """→ the module that `node` calls, None if it calls none"""
    called = isinstance(node, fx.Node) and node.op == "call_module"
    return gm.get_submodule(str(node.target)) if called else None


def calls(gm: fx.GraphModule, kind: type[nn.Module]) -> list[fx.Node]:
    """→ the nodes that call a module of the class `kind` itself, in order"""
    return [node for node in gm.graph.find_nodes(op="call_module") if type(module_of(gm, node)) is kind]


def sites(gm: fx.GraphModule, kind: type[nn.Module]) -> dict[str, list[fx.Node]]:
    """→ each module of the class `kind` by its name, with every node that calls it"""
    found = defaultdict(list)
    for node in calls(gm, kind):
        found[str(node.target)].append(node)
    return dict(found)


def only_user(node: fx.Node) -> fx.Node | None:
    """→ the one node that reads `node`, None if there are several or none"""
    return next(iter(node.users)) if len(node.users) == 1 else None


def part_of(node: fx.Node, index: int) -> fx.Node | None:
    """→ getitem(node, index), None if nothing reads it"""
    return next((user for user in node.users if user.target is operator.getitem and user.args[1] == index), None)


def parameter(gm: fx.GraphModule, node: Any) -> Tensor | None:
    """→ the parameter or buffer that `node` reads, None for anything else"""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, leaf = str(node.target).rpartition(".")
    value = getattr(gm.get_submodule(owner), leaf)
    return value if isinstance(value, Tensor) else None


def add_module(gm: fx.GraphModule, name: str, module: nn.Module) -> str:
    """Adds `module` under `name`, or under `name` and a number where that is taken. → the name"""
    free = free_name(gm, name)
    gm.add_submodule(free, module.eval())
    return free


def free_name(gm: fx.GraphModule, name: str) -> str:
    """→ `name`, or `name` and a number where that is taken by a module or a parameter"""
    taken, free, number = dict(gm.named_modules(remove_duplicate=False)), name, 0
    while free in taken or hasattr(gm, free):
        number += 1
        free = f"{name}_{number}"
    return free


def _top(gm: fx.GraphModule) -> fx.Node:
    """→ the first node after the inputs: what is inserted before it, every other node may read"""
    return next(node for node in gm.graph.nodes if node.op not in ("placeholder", "get_attr"))


def sizes(gm: fx.GraphModule, shape: tuple[str, ...]) -> tuple[fx.Node, fx.Node] | None:
    """shape: [batch, sequence, ...] → nodes of the batch and sequence size, None if no input has such a shape"""
    given = next((node for node in gm.graph.find_nodes(op="placeholder") if shape_of(node) == shape[:2]), None)
    if given is None:
        return None
    made = gm.graph.find_nodes(op="call_function", target=aten.sym_size.int)
    found = [node for node in made if node.meta.get(SIZE) == shape[:2]]
    if not found:
        with gm.graph.inserting_before(_top(gm)):
            found = [gm.graph.call_function(aten.sym_size.int, (given, dim)) for dim in (0, 1)]
        for node in found:
            node.meta.update({SIZE: shape[:2], "val": given.meta["val"].shape[node.args[1]]})
    return found[0], found[1]
