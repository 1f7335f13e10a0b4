"""Linears that somebody else quantized, put into the graph of the float model that they were part of."""

from collections.abc import Mapping

from torch import fx, nn

from toolkit import checkpoint
from toolkit.pipeline import captured
from toolkit.quantize import keep_float, linears_of, scheme_of
from toolkit.recipe import Recipe


def adopted(model: nn.Module, layers: Mapping[str, nn.Module]) -> fx.GraphModule:
    """model: float; layers: quantized ones by the names of its linears, made elsewhere → what checkpoint.load would
    give of such a model, its scheme that of most of the layers. Raises CheckpointError where a layer has no place in
    the model's graph."""
    graph = captured(model)
    linears = linears_of(graph)
    for name, layer in layers.items():
        there = linears.get(name)
        if there is None or there.weight.shape != layer.weight.shape:
            what = "no linear" if there is None else f"a weight {list(there.weight.shape)}"
            raise checkpoint.CheckpointError(
                f"{name} has {what} in {type(model).__name__}'s graph: it can't be lowered"
            )
        graph.set_submodule(name, layer.eval())
    keep_float(graph, "the checkpoint keeps it in float")
    return checkpoint.adopt(graph, Recipe(precision="int", scheme=scheme_of(layers.values())), model.config)
