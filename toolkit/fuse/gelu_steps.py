"""GELU that a model writes out in small steps, as one operator: fewer trips to memory, and what fusions look for."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.fx.subgraph_rewriter import replace_pattern_with_filters

aten = torch.ops.aten
Expression = Callable[[Any], Any]


def _new(three: float, one: float) -> Expression:
    """gelu_new, GPT-2's, and gelu_python_tanh; with integers, which no pattern takes for floats, gelu_accurate"""

    def expression(x: Any) -> Any:
        cubic = aten.add.Tensor(x, aten.mul.Tensor(aten.pow.Tensor_Scalar(x, three), 0.044715))
        tanh = aten.tanh.default(aten.mul.Tensor(cubic, math.sqrt(2.0 / math.pi)))
        return aten.mul.Tensor(aten.mul.Tensor(x, 0.5), aten.add.Tensor(tanh, one))

    return expression


def _fast(x: Any) -> Any:
    """gelu_fast"""
    square = aten.mul.Tensor(aten.mul.Tensor(x, 0.044715), x)
    tanh = aten.tanh.default(aten.mul.Tensor(aten.mul.Tensor(x, 0.7978845608), aten.add.Tensor(square, 1.0)))
    return aten.mul.Tensor(aten.mul.Tensor(x, 0.5), aten.add.Tensor(tanh, 1.0))


def _python(x: Any) -> Any:
    """gelu_python"""
    erf = aten.erf.default(aten.div.Tensor(x, math.sqrt(2.0)))
    return aten.mul.Tensor(aten.mul.Tensor(x, 0.5), aten.add.Tensor(erf, 1.0))


def _gelu(approximate: str) -> Expression:
    def expression(x: Any) -> Any:
        return aten.gelu.default(x, approximate=approximate)

    return expression


# transformers' activations, step by step as they are captured, and what they are
WRITTEN_OUT: tuple[tuple[Expression, Expression], ...] = (
    (_new(3.0, 1.0), _gelu("tanh")),
    (_new(3, 1), _gelu("tanh")),
    (_fast, _gelu("tanh")),
    (_python, _gelu("none")),
)


def raise_gelu(gm: fx.GraphModule) -> int:
    """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) → gelu(x, approximate="tanh"); 0.5 x (1 + erf(x / √2)) → gelu(x)

    The same function: float32 differs in its last bits, bfloat16 is rounded once instead of after every step.
    """
    found = [match for before, after in WRITTEN_OUT for match in replace_pattern_with_filters(gm, before, after)]
    for match in found:
        for node in match.replacements:
            node.meta = dict(match.nodes_map[match.anchor].meta)
    return len(found)
