"""A quantized graph → the target's own layers."""

from torch import fx

from targets._fused import outermost
from targets.base import Target
from toolkit.quantize import QuantizedLinear
from toolkit.recipe import Recipe


def lower(graph: fx.GraphModule, target: Target, recipe: Recipe) -> None:
    """QuantizedLinear → the target's module, in place. Raises RuntimeError if it leaves one behind.

    A fused module may stay: its own forward is the reference, and the quantized linear in it is part of that.
    """
    target.lower(graph, recipe)
    left = [name for name, module in outermost(graph) if type(module) is QuantizedLinear]
    if left:
        names = ", ".join(left)
        raise RuntimeError(f"target {target.name} was to swap every quantized linear; it left {names}; fix it")
    graph.recompile()
