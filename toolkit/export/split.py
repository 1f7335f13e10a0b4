"""Quantized linears → what quantizes their input, and what multiplies, each a module of the file that is written."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from targets._fused import RowsLinear
from targets._linear import Activation, QuantizedLinear
from targets._whole import QuantizeWhole, Whole
from toolkit.fuse.matching import add_module

Quantizer = Callable[[Activation | Whole], nn.Module]
Linear = Callable[[QuantizedLinear], nn.Module]


def split_linears(gm: fx.GraphModule, quantizer: Quantizer, linear: Linear) -> int:
    """QuantizedLinear(x) → linear(quantizer(x)), in place: one quantizer for all that read x alike, in front of the
    first of them; QuantizeWhole and RowsLinear are that already. → how many linears
    """
    found = {name: module for name, module in gm.named_modules() if isinstance(module, QuantizedLinear | RowsLinear)}
    made: dict[tuple[fx.Node, Activation], fx.Node] = {}
    for node in list(gm.graph.nodes):
        module = found.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, QuantizedLinear):
            _quantize_before(gm, node, module.activation, made, quantizer)
    for name, module in list(gm.named_modules()):
        if isinstance(module, QuantizeWhole):
            gm.set_submodule(name, quantizer(module.how).eval())
    swapped = 0
    for name in dict.fromkeys(str(node.target) for node in gm.graph.find_nodes(op="call_module")):
        if name in found:
            module = found[name]
            gm.set_submodule(name, linear(module.linear if isinstance(module, RowsLinear) else module).eval())
            swapped += 1
    gm.recompile()
    return swapped


def swap(gm: fx.GraphModule, kind: type[nn.Module], make: Callable[..., nn.Module]) -> list[str]:
    """Modules of a kind → make(it), in place. → their names"""
    names = [name for name, module in gm.named_modules() if isinstance(module, kind)]
    for name in names:
        gm.set_submodule(name, make(gm.get_submodule(name)).eval())
    return names


def _quantize_before(
    gm: fx.GraphModule, node: fx.Node, how: Activation, made: dict[tuple[fx.Node, Activation], fx.Node], quantizer: Any
) -> None:
    x: Any = node.args[0]
    if (x, how) not in made:
        name = add_module(gm, f"{node.target}_input", quantizer(how))
        with gm.graph.inserting_before(node):
            made[x, how] = gm.graph.call_module(name, (x,))
        made[x, how].meta = {"nn_module_stack": _stack(node, name)}
    node.args = (made[x, how], *node.args[1:])


def _stack(node: fx.Node, name: str) -> dict[str, Any]:
    """→ the place in the model that what is called `name` is to be shown at: beside the linear `node`"""
    return {**dict(list(node.meta.get("nn_module_stack", {}).items())[:-1]), name: (name, "opswap.Quantize")}
