"""16 bits as two terms of 8: what rounding left of a linear's input or weight is quantized and multiplied as well."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from operators import quantize_weight
from targets._linear import Activation, QuantizedLinear
from toolkit.fuse.matching import add_module, aten, sites
from toolkit.recipe import Layer, Recipe
from toolkit.report import TERMS

WIDE = 16
REST = "_rest_of_activations"  # in the name of a term that reads what rounding left of the input


def add_terms(graph: fx.GraphModule, recipe: Recipe, weights: Mapping[str, Tensor]) -> int:
    """L(x) → L(x) + L'(x − x̂) where activations have 16 bits, + L"(x) where weights have

    L' is L without bias, its rows quantized by their own ranges; x̂ is what L's rows stand for. L" has what is left of
    the float weight, `weights` by the linears' names, float [N, K], and the rows of L. All are plain quantized linears
    to what comes after, on every target. → how many linears
    """
    found = {name: recipe.layer(name) for name in sites(graph, QuantizedLinear)}
    wide = {name: how for name, how in found.items() if WIDE in (how.activation_bits, how.weight_bits)}
    for name, how in wide.items():
        _expand(graph, name, how, weights[name].detach().float())
    return len(wide)


def _expand(graph: fx.GraphModule, name: str, how: Layer, weight: Tensor) -> None:
    linear: Any = graph.get_submodule(name)
    names: dict[str, str] = {}
    if how.activation_bits == WIDE:
        rest = QuantizedLinear(linear.weight, linear.scale, None, Activation(symmetric=True))
        names["activations"] = add_module(graph, f"{name}{REST}", rest)
    if how.weight_bits == WIDE:
        q, scale = quantize_weight(weight - linear.weight.float() * linear.scale[:, None])
        names["weights"] = add_module(
            graph, f"{name}_rest_of_weights", QuantizedLinear(q, scale, None, linear.activation)
        )
    for node in sites(graph, QuantizedLinear)[name]:
        _add(graph, node, linear.activation, names)
    graph.meta.setdefault(TERMS, {})[name] = sorted(names.values())


def _add(graph: fx.GraphModule, node: fx.Node, activation: Activation, names: Mapping[str, str]) -> None:
    """node: a call of the linear, whose result becomes a sum"""
    x: Any = node.args[0]
    readers, total = list(node.users), node
    for kind, name in names.items():
        with graph.graph.inserting_after(total):
            read = x
            if kind == "activations":
                read = graph.graph.call_function(torch.ops.opswap.rounding_error.default, (x, *activation.levels()))
                read.meta = dict(x.meta)
        with graph.graph.inserting_after(max(total, read)):
            term = graph.graph.call_module(name, (read,))
        with graph.graph.inserting_after(term):
            total = graph.graph.call_function(aten.add.Tensor, (total, term))
        term.meta, total.meta = dict(node.meta), dict(node.meta)
    for reader in readers:
        reader.replace_input_with(node, total)
