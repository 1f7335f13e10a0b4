"""Graphs to export, and whether what was exported computes the same."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import fx

from tests import tiny
from tests.checks import assert_sqnr
from toolkit import Recipe, Rule, checkpoint
from toolkit.export import onnx_file
from toolkit.export.about import about
from toolkit.pipeline import captured, lowered, quantized

DYNAMIC, STATIC = Recipe(precision="int"), Recipe(precision="int", scheme="static")
SYMMETRIC = Recipe(precision="int", scheme="static", symmetric=True, rules=(Rule("*.0.*query", precision="bf16"),))
SYMMETRIC_DYNAMIC = Recipe(precision="int", symmetric=True)
WEIGHTS = Recipe(precision="int", scheme="weight")
QUERY = "bert.encoder.layer.0.attention.self.query"


@lru_cache
def graph_of(name: str, recipe: Recipe) -> fx.GraphModule:
    """Before fusing and lowering"""
    model = tiny.build(name)
    if recipe.precision != "int":
        return captured(model)
    return quantized(model, recipe, [tiny.inputs(model, 4, 20)] if recipe.is_static() else None)


@lru_cache
def exported(name: str, recipe: Recipe) -> tuple[Path, onnx_file.Written]:
    path = Path(mkdtemp(prefix="opswap-test-")) / f"{name}.onnx"
    graph = graph_of(name, recipe)
    return path, onnx_file.write(checkpoint.copied(graph), path, about(graph, recipe, "somewhere/tiny"))


def assert_same(graph: fx.GraphModule, other: Any, model: torch.nn.Module, recipe: Recipe) -> None:
    """`other` computes what `graph` does on the target cpu, at any shape."""
    reference = lowered(checkpoint.copied(graph), recipe, "cpu")
    for batch, sequence in ((2, 16), (1, 1), (3, 33)):
        inputs = tiny.inputs(model, batch, sequence)
        want, got = reference(**inputs), other(**inputs)
        assert list(want.keys()) == list(got.keys())
        for key in want:
            assert_sqnr(got[key], want[key], 35.0)


def read(graph: fx.GraphModule) -> fx.GraphModule:
    """→ what read_qdq makes of a graph"""
    return quantized(graph, Recipe(precision="int"))
