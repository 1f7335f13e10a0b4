"""Gated feed-forwards, act(a) · b: one linear that makes both halves, and what follows it without a trip to memory."""

import operator
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx

from operators.floating import GELUS
from targets._fused import Quantize, RowsLinear
from targets._gate import Gate, RowsLinearGate
from toolkit.fuse.matching import MERGED, add_module, aten, module_of, only_user, shape_of, sites
from toolkit.fuse.stacked import STACKABLE, stack

SPLITS = {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default}
Gates = dict[tuple[str, bool], str]  # the name of each Gate by what it takes
Factors = tuple[fx.Node, fx.Node]  # what goes through the activation, and what that is multiplied by


def fuse_gate(gm: fx.GraphModule) -> int:
    """a, b = halves of linear(x), act(a) · b → Gate(linear(x)), for GELU and SiLU of either half
    act(gate(x)) · up(x) → Gate(gate_up(x)), the two weights stacked

    Halves are parts of chunk, split or split_with_sizes, or slices. The two linears are of one kind, both quantized or
    both float, and of one width; all their calls are rewritten, or none. → how many products
    """
    gates: Gates = {}
    fused, pairs = 0, defaultdict(list)
    for product in gm.graph.find_nodes(op="call_function", target=aten.mul.Tensor):
        for act, (a, b) in _gated(product):
            whole = _halves(gm, a, b)
            if whole is not None:
                _call_gate(gm, gates, product, (act, whole[1]), whole[0])
                fused += 1
                break
            if _alike(gm, a, b):
                pairs[str(a.target), str(b.target)].append((product, act, a))
                break
    for names, found in pairs.items():
        fused += _stack(gm, gates, names, found)
    return fused


def fuse_gate_rows(gm: fx.GraphModule) -> int:
    """Quantize(Gate(RowsLinear(rows))) → RowsLinearGate(rows)

    All calls of a linear, if they have one gate, or none. → how many calls
    """
    fused = 0
    for name, nodes in sites(gm, RowsLinear).items():
        ends = [_gate_end(gm, node) for node in nodes]
        ways = {(end.args[0].target, end.target) for end in ends if end is not None}  # type: ignore[union-attr]
        if None in ends or len(ways) > 1:
            continue
        linear, gate, quantize = (gm.get_submodule(str(one)) for one in (name, *ways.pop()))
        gm.set_submodule(name, RowsLinearGate(linear.linear, gate, quantize.activation).eval())  # type: ignore[arg-type]
        for node, end in zip(nodes, ends, strict=True):
            end.replace_all_uses_with(node)  # type: ignore[union-attr]
        fused += len(nodes)
    return fused


def _gate_end(gm: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Gate and Quantize, each the only reader → the Quantize, None for anything else"""
    gate = only_user(node)
    if gate is None or not isinstance(module_of(gm, gate), Gate):
        return None
    end = only_user(gate)
    return end if isinstance(module_of(gm, end), Quantize) else None


def _gated(product: fx.Node) -> Iterator[tuple[str, Factors]]:
    """→ the name of each activation that `product` alone reads, with its input and the other factor"""
    for act, other in (product.args, product.args[::-1]):
        name = _activation(act)
        if name is not None and isinstance(other, fx.Node) and only_user(act) is product:  # type: ignore[arg-type]
            yield name, (act.args[0], other)  # type: ignore[union-attr, misc]


def _activation(node: Any) -> str | None:
    """→ its name as operators.gate has it"""
    if not isinstance(node, fx.Node) or node.target not in (aten.silu.default, aten.gelu.default):
        return None
    if node.target is aten.silu.default:
        return "silu"
    kind = node.kwargs.get("approximate", "none")
    return next((name for name, approximate in GELUS.items() if approximate == kind), None)


def _halves(gm: fx.GraphModule, a: fx.Node, b: fx.Node) -> tuple[fx.Node, bool] | None:
    """→ the linear that a and b are the halves of, and whether a is the second; None if they are not"""
    (whole, second), other = _half(a), _half(b)
    fits = whole is not None and other == (whole, not second) and isinstance(module_of(gm, whole), STACKABLE)
    return (whole, second) if fits else None


def _half(node: fx.Node) -> tuple[Any, bool]:
    """→ what `node` is one half of, by its last dimension, and whether it is the second; None where it is no half"""
    source: Any = node.args[0] if node.args else None
    begin: Any
    width = _width(node)
    if node.target is operator.getitem and source.target in SPLITS:
        (whole, _, *dim), before = source.args, source.meta.get("val", ())[: node.args[1]]  # type: ignore[misc]
        begin = sum(map(_last_size, before))
    elif node.target is aten.slice.Tensor and len(node.args) <= 4:  # by steps of 1
        whole, (*dim, begin) = source, (*node.args[1:2], *(node.args[2:3] or (0,)))
    else:
        return None, False
    last = dim in ([-1], [len(shape_of(whole)) - 1])
    if not last or not 0 < 2 * width == _width(whole) or begin not in (0, width, -width):
        return None, False
    return whole, bool(begin)


def _width(node: fx.Node) -> int:
    """→ the size of its last dimension, 0 where that is not known"""
    return _last_size(node.meta.get("val"))


def _last_size(value: Any) -> int:
    size = value.shape[-1] if isinstance(value, Tensor) and value.dim() else 0
    return size if isinstance(size, int) else 0


def _alike(gm: fx.GraphModule, a: fx.Node, b: fx.Node) -> bool:
    """Whether a and b are what two linears that can be stacked make of one input, and nothing else reads them"""
    one, other = module_of(gm, a), module_of(gm, b)
    if not isinstance(one, STACKABLE) or type(one) is not type(other) or one is other or a.args != b.args:
        return False
    kinds = {(part.out_features, getattr(part, "activation", None)) for part in (one, other)}  # type: ignore[union-attr]
    return len(kinds) == 1 and only_user(a) is not None and only_user(b) is not None


def _stack(gm: fx.GraphModule, gates: Gates, names: tuple[str, str], found: list[tuple[fx.Node, str, fx.Node]]) -> int:
    """names: of two linears; found: the product of each pair of their calls, the activation, and the first's call
    → how many products, 0 where either is called elsewhere too"""
    linears = [gm.get_submodule(name) for name in names]
    used = [sum(node.target == name for node in gm.graph.find_nodes(op="call_module")) for name in names]
    if used != [len(found)] * 2:
        return 0
    merged = add_module(gm, f"{names[0].rpartition('.')[0]}.gate_up".lstrip("."), stack(linears))
    gm.meta.setdefault(MERGED, {})[merged] = names
    for product, act, half in found:
        value = half.meta["val"]
        with gm.graph.inserting_before(product):
            whole = gm.graph.call_module(merged, half.args)
        whole.meta = {**half.meta, "val": value.new_empty((*value.shape[:-1], 2 * value.shape[-1]))}
        _call_gate(gm, gates, product, (act, False), whole)
    return len(found)


def _call_gate(gm: fx.GraphModule, gates: Gates, product: fx.Node, how: tuple[str, bool], whole: fx.Node) -> None:
    """product → Gate(whole); how: what Gate takes"""
    if how not in gates:
        gates[how] = add_module(gm, "gate", Gate(*how))
    with gm.graph.inserting_before(product):
        call = gm.graph.call_module(gates[how], (whole,))
    call.meta = dict(product.meta)
    product.replace_all_uses_with(call)
