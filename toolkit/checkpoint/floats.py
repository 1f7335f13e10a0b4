"""A quantized graph → the float graph that its weights stand for: for precisions, and targets, without int8."""

from typing import Any

import torch
from torch import Tensor, fx

from targets._bf16 import Bf16Linear
from targets._linear import QuantizedLinear, float_linear
from targets._swap import outermost
from targets._weight import WeightLinear
from toolkit.checkpoint.loading import copied
from toolkit.checkpoint.saving import NOTED
from toolkit.report import FROM_INT8, TERMS, WEIGHTS
from toolkit.rewrite import clean

ROUNDING_ERROR = torch.ops.opswap.rounding_error.default
KINDS = (QuantizedLinear, WeightLinear, Bf16Linear)


def as_floats(loaded: fx.GraphModule) -> fx.GraphModule:
    """loaded: as `load` gives it → a float32 graph that `transform` takes in the place of a model, at any precision; a
    cache stays. The graph itself is not changed."""
    graph = copied(loaded)
    _merge_terms(graph)
    _multiply_out(graph)
    clean(graph)
    graph.meta = {name: value for name, value in graph.meta.items() if name not in NOTED} | {WEIGHTS: FROM_INT8}
    for name in ("config", "generation_config"):
        if hasattr(loaded, name):
            setattr(graph, name, getattr(loaded, name))
    return graph


def multiplied(layer: Any) -> Tensor:
    """→ the float32 weight [N, K] that the int8 one of a QuantizedLinear or WeightLinear stands for"""
    return layer.weight.to(torch.float32) * layer.scale[:, None]


def _merge_terms(gm: fx.GraphModule) -> int:
    """L(x) + L'(x − x̂) → L(x); L(x) + L"(x) → M(x), the nn.Linear of both weights. → how many linears"""
    terms: dict[str, list[str]] = gm.meta.get(TERMS) or {}
    for name, extra in terms.items():
        layer: Any = gm.get_submodule(name)
        weight = multiplied(layer)
        for term in extra:
            calls = gm.graph.find_nodes(op="call_module", target=term)
            if all(_source(call).target is not ROUNDING_ERROR for call in calls):
                weight = weight + multiplied(gm.get_submodule(term))
            for call in calls:
                (total,) = call.users
                total.replace_all_uses_with(total.args[0])
                gm.graph.erase_node(total)
        gm.set_submodule(name, float_linear(weight, layer.bias))
    return len(terms)


def _multiply_out(gm: fx.GraphModule) -> int:
    """QuantizedLinear, WeightLinear, Bf16Linear → nn.Linear under the same name. → how many"""
    found = [(name, module) for name, module in outermost(gm) if isinstance(module, KINDS)]
    for name, layer in found:
        weight = layer.weight.to(torch.float32) if isinstance(layer, Bf16Linear) else multiplied(layer)
        gm.set_submodule(name, float_linear(weight, layer.bias))
    return len(found)


def _source(call: fx.Node) -> fx.Node:
    return call.args[0]  # type: ignore[return-value]
