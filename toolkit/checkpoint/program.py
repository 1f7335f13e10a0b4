"""A graph of ATen operators ↔ JSON: every node by its name, and nothing that could run by being read."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers.modeling_outputs  # noqa: F401  (registers the types that graphs return)
from torch import fx
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from toolkit.checkpoint import shapes
from toolkit.checkpoint.errors import CheckpointError
from toolkit.share import same_nodes, unshare

NAMESPACES = ("aten", "opswap", "opswap_reference")
PLAIN = ("getitem", "add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
SYMBOLIC = ("sym_max", "sym_min", "sym_not", "sym_float", "sym_int", "sym_ite")
# by str(), which is how they are written: torch.strided, torch.contiguous_format, ...
CONSTANTS = {str(value): value for value in (torch.strided, torch.contiguous_format, torch.preserve_format)}
NUMBERS = (bool, int, float, str, type(None))


def to_json(graph: fx.GraphModule) -> dict[str, Any]:
    """→ nodes in order, the tree of arguments and outputs, the symbols. Raises CheckpointError for a node that calls
    anything but operators and modules."""
    nodes = list(graph.graph.nodes)
    info: Any = graph.graph._codegen.pytree_info  # type: ignore[attr-defined]
    return {
        "arguments": list(info.orig_args),
        "in_spec": pytree.treespec_dumps(info.in_spec),
        "out_spec": pytree.treespec_dumps(info.out_spec),
        "symbols": shapes.hints([node.meta.get("val") for node in nodes]),
        "nodes": [_node(node) for node in nodes],
    }


def from_json(program: Mapping[str, Any], attributes: Mapping[str, Any], class_name: str) -> fx.GraphModule:
    """attributes: the modules and tensors that the nodes name. Raises CheckpointError for a node that can't be read."""
    values, graph = shapes.Values(program["symbols"]), fx.Graph()
    made: dict[str, fx.Node] = {}
    for given in program["nodes"]:
        target = _operator(given["target"]) if given["op"] == "call_function" else given["target"]
        if given["op"] in ("get_attr", "call_module") and target not in attributes:
            raise CheckpointError(
                f"the saved graph wants {target}, which the weights don't hold: copy the folder again"
            )
        args, kwargs = _read(given["args"], made), _read(given["kwargs"], made)
        node = graph.create_node(given["op"], target, tuple(args), kwargs, given["name"])
        if given["val"] is not None:
            node.meta["val"] = values.read(given["val"])
        made[given["name"]] = node
    specs = (pytree.treespec_loads(program[name]) for name in ("in_spec", "out_spec"))
    graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(list(program["arguments"]), *specs)))
    used = {node.target for node in graph.nodes if node.op in ("get_attr", "call_module")}
    graph.lint()
    return fx.GraphModule({name: attributes[name] for name in used}, graph, class_name=class_name).eval()


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """→ another graph over the same memory, to be rewritten, and moved to a device, in its stead"""
    copy = fx.GraphModule(graph, same_nodes(graph), class_name=type(graph).__name__).eval()
    unshare(copy)
    copy.meta = {key: dict(value) if isinstance(value, dict) else value for key, value in graph.meta.items()}
    return copy


def _node(node: fx.Node) -> dict[str, Any]:
    target = _name(node) if node.op == "call_function" else str(node.target)
    try:
        args, kwargs = _write(list(node.args)), _write(dict(node.kwargs))
    except TypeError as error:
        raise CheckpointError(f"the graph's node {node.name} can't be saved: {error}") from error
    val = shapes.to_json(node.meta.get("val"))
    return {"name": node.name, "op": node.op, "target": target, "args": args, "kwargs": kwargs, "val": val}


def _name(node: fx.Node) -> str:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace in NAMESPACES:
        return str(target)
    name = getattr(target, "__name__", "")
    if name in PLAIN and target is getattr(operator, name):
        return f"operator.{name}"
    if name in SYMBOLIC and target is getattr(torch, name):
        return f"torch.{name}"
    raise CheckpointError(f"the graph's node {node.name} calls {target}: a checkpoint holds operators alone")


def _operator(name: str) -> Callable[..., Any]:
    space, _, rest = name.partition(".")
    if space == "operator" and rest in PLAIN:
        return getattr(operator, rest)
    if space == "torch" and rest in SYMBOLIC:
        return getattr(torch, rest)
    found = re.fullmatch(r"(\w+)\.(\w+)", rest)
    if space in NAMESPACES and found:
        packet = getattr(getattr(torch.ops, space), found[1], None)
        overload = getattr(packet, found[2], None)
        if isinstance(overload, torch._ops.OpOverload):
            return overload
    raise CheckpointError(f"the saved graph calls {name!r}, which this version does not have: quantize the model again")


def _write(value: Any) -> Any:
    """A node's argument → JSON; what JSON has no word for is an object of one key"""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": shapes.dtype_name(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, slice):
        return {"slice": [_write(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, dict):
        return {"dict": [[_write(key), _write(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_write(item) for item in value]}
    if isinstance(value, list):
        return [_write(item) for item in value]
    if isinstance(value, NUMBERS):
        return value
    if str(value) in CONSTANTS:
        return {"constant": str(value)}
    raise TypeError(f"an argument of type {type(value).__name__}")


def _read(value: Any, made: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_read(item, made) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "node":
        return made[inside]
    if kind == "dtype":
        return shapes.dtype_of(inside)
    if kind == "device":
        return torch.device(inside)
    if kind == "slice":
        return slice(*_read(inside, made))
    if kind == "dict":
        return {_read(key, made): _read(item, made) for key, item in inside}
    if kind == "tuple":
        return tuple(_read(inside, made))
    return CONSTANTS[inside]
