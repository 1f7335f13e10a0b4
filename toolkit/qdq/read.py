"""Linears of a Q/DQ graph → our quantized linears, with the same integers."""

import logging
import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, fx

from targets._fused import RowsLinear
from targets._linear import Activation, QuantizedLinear
from targets._memory import unchanged
from targets._whole import QuantizeWhole, Whole
from toolkit.fuse.matching import add_module, aten
from toolkit.qdq.activations import Input, read_input
from toolkit.qdq.nodes import DEQUANTIZE, Unreadable, arguments, constant, operator_of
from toolkit.qdq.weights import Weight, read_weight
from toolkit.raising import LINEAR, module_name
from toolkit.report import keep

log = logging.getLogger(__name__)


class Site(NamedTuple):
    """One call of a linear: its node, what it reads, its weight and its bias, float32 [N] or None"""

    node: fx.Node
    input: Input
    weight: Weight
    bias: Tensor | None


def read_qdq(gm: fx.GraphModule) -> int:
    """linear(dequantize(quantize(x)), dequantize(weight), bias) → QuantizedLinear(x), under the linear's name

    The integers are the graph's own. Calls that quantize x in different ways become modules of their own; calls of one
    linear that do it alike share one. A range of the whole x → QuantizeWhole(x), RowsLinear, reshape. Where not all
    levels are used, x is clamped first. What cannot be read is noted as kept, and stays as it is. → how many calls
    """
    layers = defaultdict(list)
    for node in gm.graph.find_nodes(op="call_function", target=LINEAR):
        x, weight = node.args[:2]
        if operator_of(weight) not in DEQUANTIZE:
            continue
        attributes = _attributes(weight, node)
        name = module_name(node, next((path for path in attributes if path.endswith(".weight")), None))
        try:
            site = Site(node, _input(gm, x, node), read_weight(gm, weight), _bias(gm, node))
        except Unreadable as why:
            keep(gm, name, f"it stays as it was quantized, in float between quantize and dequantize: {why}")
            continue
        layers[name, site.input.how, attributes].append(site)
    read = [site.node for sites in layers.values() for site in sites]
    for (name, how, _), sites in layers.items():
        _rewrite(gm, _free_name(gm, name, read), how, sites)
    left = sum(bool(operator_of(node)) for node in gm.graph.nodes) if read else 0
    log.debug("%d quantized linears read; operators of the Q/DQ graph before cleaning: %d", len(read), left)
    return len(read)


def _input(gm: fx.GraphModule, x: Any, node: fx.Node) -> Input:
    """→ what the linear `node` reads. Raises Unreadable as read_input does, and where that is written to before"""
    found = read_input(gm, x)
    source: Any = arguments(found.node)["input"]
    ranges: list[Any] = [one.args[0] for one in found.node.all_input_nodes if one.target is operator.getitem]
    first: Any = min([found.node, *ranges])
    if not unchanged([source], first, node):
        raise Unreadable(f"{source.name} is written to after it was quantized")
    return found


def _bias(gm: fx.GraphModule, node: fx.Node) -> Tensor | None:
    bias: Any = constant(gm, node.args[2]) if len(node.args) > 2 and node.args[2] is not None else None
    return None if bias is None else bias.float()


def _attributes(weight: Any, node: fx.Node) -> tuple[str, ...]:
    """→ the attributes that the weight and bias of a linear are made of: they tell it from any other"""
    todo, found = [weight, *node.args[2:3]], []
    while todo:
        here = todo.pop()
        if isinstance(here, fx.Node):
            found += [str(here.target)] if here.op == "get_attr" else []
            todo += here.all_input_nodes
    return tuple(sorted(found))


def _free_name(gm: fx.GraphModule, name: str, read: Iterable[fx.Node]) -> str:
    """→ `name`, or with a number if a quantized linear or anything that stays in the graph lives there"""
    gone, number, free = set(read), 0, name
    while _is_taken(gm, free, gone):
        number += 1
        free = f"{name}_{number}"
    return free


def _is_taken(gm: fx.GraphModule, name: str, gone: set[fx.Node]) -> bool:
    if any(str(node.target) == name for node in gm.graph.find_nodes(op="call_module")):
        return True
    inside = [node for node in gm.graph.find_nodes(op="get_attr") if str(node.target).startswith(f"{name}.")]
    return any(not _only_for(node, gone) for node in inside)


def _only_for(node: fx.Node, gone: set[fx.Node]) -> bool:
    """Whether `node` is used, through operators of the Q/DQ graph, by the nodes `gone` alone"""
    return all(user in gone or (bool(operator_of(user)) and _only_for(user, gone)) for user in node.users)


def _rewrite(gm: fx.GraphModule, name: str, how: Activation | Whole, sites: list[Site]) -> None:
    weight, bias = sites[0].weight, sites[0].bias
    # a RowsLinear is given rows: of this, only whether their zero points can differ from the middle counts
    activation = how if isinstance(how, Activation) else Activation(how.symmetric)
    linear = QuantizedLinear(weight.integers, weight.scale, bias, activation).eval()
    gm.add_submodule(name, linear if isinstance(how, Activation) else RowsLinear(linear).eval())
    for site in sites:
        node: Any = site.node
        x: Any = arguments(site.input.node)["input"]  # looked up now: it may be a linear that was just replaced
        with gm.graph.inserting_before(node):
            if site.input.limits is not None:
                x = _clamp(gm, x, site.input.limits)
            call = _on_rows(gm, name, how, x, node) if isinstance(how, Whole) else gm.graph.call_module(name, (x,))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        _erase(node)


def _erase(node: fx.Node) -> None:
    """Erases `node` and what of the Q/DQ graph and its attributes was there for it alone."""
    todo = [node]
    while todo:
        sources = todo[-1].all_input_nodes
        node.graph.erase_node(todo.pop())
        gone = [source for source in sources if not source.users and (source.op == "get_attr" or operator_of(source))]
        todo += gone


def _clamp(gm: fx.GraphModule, x: fx.Node, limits: tuple[float, float]) -> fx.Node:
    clamped = gm.graph.call_function(aten.clamp.default, (x, *limits))
    clamped.meta = dict(x.meta)
    return clamped


def _on_rows(gm: fx.GraphModule, name: str, how: Whole, x: fx.Node, linear: fx.Node) -> fx.Node:
    """x → QuantizeWhole(x), one for all that read x so → the RowsLinear `name`, in the shape of `linear`"""
    shape = linear.meta["val"].shape
    rows = next((user for user in x.users if _is_whole(gm, user, how)), None)
    if rows is None:
        with gm.graph.inserting_after(x):
            rows = gm.graph.call_module(add_module(gm, "quantize_whole", QuantizeWhole(how)), (x,))
    y = gm.graph.call_module(name, (rows,))
    sizes = [gm.graph.call_function(aten.sym_size.int, (x, dim)) for dim in range(len(shape) - 1)]
    for dim, size in enumerate(sizes):
        size.meta["val"] = shape[dim]
    return gm.graph.call_function(aten.reshape.default, (y, [*sizes, shape[-1]]))


def _is_whole(gm: fx.GraphModule, node: fx.Node, how: Whole) -> bool:
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, QuantizeWhole) and module.how == how
