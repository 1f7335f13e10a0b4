"""Models whose attention is not PyTorch's operator, on cuda: rows of tokens, and the same answers."""

import pytest
import torch
from torch import fx

from targets.cuda.gate import CudaGate
from targets.cuda.linear import HALF, CudaRowsLinear, CudaRowsLinearGate
from targets.cuda.rotary import CudaRotary
from tests.checks import assert_sqnr
from tests.toolkit.families import MODELS, build
from tests.toolkit.fusing import mask_of
from tests.toolkit.test_families import inputs
from toolkit import Recipe, transform

# of two layers; where attention is packed, queries and keys are turned at once
TURNED = {"roformer": 2, "llama": 2, "llama in steps": 4, "modernbert": 3}
GATED = ("llama", "llama in steps", "modernbert")


def check(name: str, graph: fx.GraphModule, db: float) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
    with torch.no_grad():
        want, have = build(name)(**given), graph(**given)
    assert_sqnr(have["start_logits"][real], want["start_logits"][real], db)


def modules(graph: fx.GraphModule, kind: type) -> list:
    return [module for module in graph.modules() if type(module) is kind]


@pytest.mark.parametrize("name", MODELS)
def test_answers_as_the_model_does(name: str) -> None:
    graph = transform(build(name), Recipe("int"), "cuda")
    found = len(modules(graph, CudaRotary)), len(modules(graph, CudaRowsLinearGate))
    assert found == (TURNED.get(name, 0), 2 if name in GATED else 0)
    check(name, graph, 30)


@pytest.mark.parametrize("precision, db", [("fp", 110), ("bf16", 35), ("fp16", 50), ("fp8", 18)])
def test_at_other_precisions(precision: str, db: float) -> None:
    graph = transform(build("llama"), Recipe(precision), "cuda")
    assert len(modules(graph, CudaRotary)) == 2
    assert len(modules(graph, CudaRowsLinearGate if precision == "fp8" else CudaGate)) == (
        2 if precision == "fp8" else 1
    )
    check("llama", graph, db)


@pytest.mark.parametrize(
    "recipe", [Recipe("int", scheme="weight"), Recipe("int", without=("gate_rows",))], ids=["weight", "without rows"]
)
def test_a_gate_between_linears_gives_floats_of_32_bits(recipe: Recipe) -> None:
    """act(a) · b of numbers that 16 bits hold may be more than they hold."""
    graph = transform(build("llama"), recipe, "cuda")
    assert [gate.dtype for gate in modules(graph, CudaGate)] == [torch.float32]
    check("llama", graph, 30)


@pytest.mark.parametrize("attention, dtype", [("auto", HALF), ("fp", torch.float32)])
def test_what_is_turned_is_as_precise_as_attention(attention: str, dtype: torch.dtype) -> None:
    """and so are the linears before it"""
    graph = transform(build("llama"), Recipe("int", attention=attention), "cuda")
    assert {one.dtype for one in modules(graph, CudaRotary)} == {dtype}
    assert {one.dtype for one in modules(graph, CudaRowsLinear)} == {dtype}
    check("llama", graph, 30)
