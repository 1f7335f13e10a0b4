"""A quantized graph → the target's own layers."""

from torch import fx

from targets._swap import outermost
from targets._weight import WeightLinear
from targets.base import Target, require_schemes
from toolkit.quantize import WEIGHT, QuantizedLinear
from toolkit.recipe import Recipe


def lower(graph: fx.GraphModule, target: Target, recipe: Recipe) -> None:
    """QuantizedLinear → the target's module, in place. Raises RuntimeError if it leaves one behind, UsageError for
    linears with float activations where the target has none.

    A fused module may stay: its own forward is the reference, and the quantized linear in it is part of that.
    """
    if any(isinstance(module, WeightLinear) for module in graph.modules()):
        require_schemes(target, [WEIGHT])
    target.lower(graph, recipe)
    left = [name for name, module in outermost(graph) if type(module) is QuantizedLinear]
    if left:
        names = ", ".join(left)
        raise RuntimeError(f"target {target.name} was to swap every quantized linear; it left {names}; fix it")
    graph.recompile()
