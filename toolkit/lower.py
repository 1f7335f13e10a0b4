"""A quantized graph → the target's own layers."""

from torch import fx

from targets.base import Target
from toolkit.quantize import QuantizedLinear
from toolkit.recipe import Recipe


def lower(graph: fx.GraphModule, target: Target, recipe: Recipe) -> None:
    """QuantizedLinear → the target's module, in place. Raises RuntimeError if it leaves one behind."""
    target.lower(graph, recipe)
    left = [name for name, module in graph.named_modules() if type(module) is QuantizedLinear]
    if left:
        names = ", ".join(left)
        raise RuntimeError(f"target {target.name} was to swap every quantized linear; it left {names}; fix it")
    graph.recompile()
