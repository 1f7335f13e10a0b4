"""Quantized linears on rows, and GELU with them without a trip to memory."""

from typing import Any

from torch import fx

from targets._fp8 import Fp8Linear
from targets._fused import Quantize, RowsLinear, RowsLinearGelu
from targets._linear import Activation, QuantizedLinear
from toolkit.fuse.matching import add_module, aten, is_rows, mark_rows, module_of, only_user, sites


def share_quantize(gm: fx.GraphModule) -> int:
    """a = QuantizedLinear(x), b = QuantizedLinear'(x) → rows = Quantize(x), a = RowsLinear(rows), b = RowsLinear'(rows)

    All calls of a linear, if each reads rows of tokens, or none. → how many calls
    """
    names: dict[Activation, str] = {}
    made: dict[Any, fx.Node] = {}
    fused = 0
    for name, nodes in {**sites(gm, QuantizedLinear), **sites(gm, Fp8Linear)}.items():
        if not all(is_rows(node.args[0]) for node in nodes):
            continue
        linear: Any = gm.get_submodule(name)
        how: Activation = linear.activation
        if how not in names:
            names[how] = add_module(gm, "quantize", Quantize(how))
        gm.set_submodule(name, RowsLinear(linear).eval())
        for node in nodes:
            key = x, _ = node.args[0], how
            if key not in made:
                with gm.graph.inserting_after(x):  # type: ignore[arg-type]
                    made[key] = mark_rows(gm.graph.call_module(names[how], (x,)))
            node.args = (made[key],)
        fused += len(nodes)
    return fused


def fuse_gelu(gm: fx.GraphModule) -> int:
    """Quantize(gelu(RowsLinear(rows))) → RowsLinearGelu(rows), for the GELU by erf and that by tanh

    All calls of a linear, if they have one of the two, or none. → how many calls
    """
    fused = 0
    for name, nodes in sites(gm, RowsLinear).items():
        linear: Any = gm.get_submodule(name).linear
        ends = [_gelu_end(gm, node) for node in nodes]
        ways = {_gelu_way(gm, end) for end in ends if end is not None}
        if None in ends or len(ways) > 1:
            continue
        gm.set_submodule(name, RowsLinearGelu(linear, *ways.pop()).eval())
        for node, end in zip(nodes, ends, strict=True):
            end.replace_all_uses_with(node)  # type: ignore[union-attr]
        fused += len(nodes)
    return fused


def _gelu_end(gm: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """gelu and Quantize, each the only reader → the Quantize, None for anything else"""
    gelu = only_user(node)
    if gelu is None or gelu.target is not aten.gelu.default:
        return None
    end = only_user(gelu)
    return end if isinstance(module_of(gm, end), Quantize) else None


def _gelu_way(gm: fx.GraphModule, end: fx.Node) -> tuple[Activation, bool]:
    """end: the Quantize of a gelu → how it quantizes, and whether the gelu is that by tanh"""
    quantize: Any = module_of(gm, end)
    gelu: Any = end.args[0]
    return quantize.activation, gelu.kwargs.get("approximate", "none") == "tanh"
