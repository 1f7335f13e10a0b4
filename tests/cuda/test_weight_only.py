"""The linear with int8 weights and float activations: the reference's floats at awkward sizes, and whole graphs."""

import pytest
import torch

from operators.triton import linear_w8
from operators.triton.weight_only import Weight
from operators.weight_only import linear_w8 as reference
from operators.weight_only import pack_weight_w8
from targets.cuda.weight import CudaWeightLinear
from tests import tiny
from tests.checks import assert_sqnr
from tests.cuda.samples import SHAPES, random, to, weight
from tests.cuda.test_graph import GATE_DB
from toolkit import Recipe, report_of, transform
from toolkit.recipe import Rule

DB = 110  # float32 sums of another order
GRAPH_DB = 65  # some floats between kernels have 16 bits
WEIGHT = Recipe("int", scheme="weight")


@pytest.mark.parametrize("dtype, db", [(torch.float32, DB), (torch.bfloat16, 40)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("m, k, n", [*SHAPES, (17, 384, 200), (70, 33, 9)])
def test_equals_the_reference(device, m, k, n, bias, dtype, db):
    x, layer = random(m, k).to(dtype), weight(n, k, False, bias)
    want = reference(x, pack_weight_w8(layer.weight), layer.scale, layer.bias, "none")
    have = linear_w8(x.to(device), to(device, Weight(layer.weight, layer.scale, layer.bias)))
    assert have.dtype == dtype and have.shape == (m, n)
    assert_sqnr(have.cpu(), want, db)


def test_large_numbers_and_those_that_are_none(device):
    """float32 has more than 16 bits hold; a row of NaN or infinity is its own alone"""
    x, layer = random(5, 64), weight(20, 64, False)
    x[1] *= 1e30
    x[2, 3], x[4, 0] = torch.nan, torch.inf
    want = reference(x, pack_weight_w8(layer.weight), layer.scale, layer.bias, "none")
    have = linear_w8(x.to(device), to(device, Weight(layer.weight, layer.scale, layer.bias))).cpu()
    for row in (0, 1, 3):
        assert_sqnr(have[row], want[row], DB)
    assert not have[2].isfinite().any() and not have[4].isfinite().any()


def test_no_rows(device):
    layer = weight(20, 64, False)
    given = to(device, Weight(layer.weight, layer.scale, layer.bias))
    assert linear_w8(torch.empty(0, 64, device=device), given).shape == (0, 20)


@pytest.mark.parametrize("name", ["bert", "gpt2", tiny.TIED])
def test_graphs(name):
    graph, model = transform(tiny.build(name), WEIGHT, "cuda"), tiny.build(name)
    found = [module for module in graph.modules() if isinstance(module, CudaWeightLinear)]
    assert found and report_of(graph).schemes == {"weight": report_of(graph).swapped}
    given = tiny.inputs(model, 3, 17)
    real = given["attention_mask"].bool()
    want = transform(tiny.build(name), WEIGHT, "cpu")(**given)[0]
    assert_sqnr(graph(**given)[0][real], want[real], GRAPH_DB)


def test_beside_linears_that_round_their_inputs():
    recipe = Recipe("int", rules=(Rule("*.intermediate.dense", scheme="weight"), Rule("*.key", scheme="weight")))
    graph, given = transform(tiny.build("bert"), recipe, "cuda"), tiny.inputs(tiny.build("bert"), 3, 17)
    assert set(report_of(graph).schemes) == {"dynamic", "weight"}
    real = given["attention_mask"].bool()
    assert_sqnr(graph(**given)[0][real], transform(tiny.build("bert"), recipe, "cpu")(**given)[0][real], GATE_DB["int"])
