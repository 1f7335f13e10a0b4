"""Some linears of an int graph in float or bfloat16: the fused graph is still the unfused one, on every target."""

import copy
from functools import cache

import pytest
import torch

import targets
from targets._bf16 import Bf16Linear
from targets._float import PackedFloatLinear
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.fusing import assert_same, fused, inputs, mask_of, model_of
from toolkit import Recipe, Rule, capture, report_of, transform
from toolkit.fuse import NAMES
from toolkit.lower import lower
from toolkit.pipeline import PASSES, fuse, run
from toolkit.quantize import QuantizedLinear, linears_of, quantize

LAYER = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]
BERT = [f"bert.encoder.layer.{number}.{name}" for number in (0, 1) for name in LAYER]
ALBERT = ["embedding_hidden_mapping_in", *(f"*.{name}" for name in ("query", "value", "dense", "ffn", "ffn_output"))]
ONE = [("bert", name) for name in BERT] + [("albert", f"albert.encoder.{name}") for name in ALBERT]
SHORT = [f"{model}-{name.removeprefix('bert.encoder.layer.').removeprefix('albert.encoder.')}" for model, name in ONE]
QKV = "*.self.*"
TARGET_DB = 42  # customcpu's attention is in bfloat16


@cache
def captured(model):
    graph = capture(model_of(model))
    run(graph, PASSES)
    return graph


def quantized(model, *rules):
    graph = copy.deepcopy(captured(model))
    quantize(graph, Recipe("int", rules=rules))
    return graph


def of_targets(model, *rules):
    """→ what each target makes of it, at real tokens"""
    given = inputs(model, mask_of("right"))
    real = given["attention_mask"].bool()
    results = {}
    for name in ("cpu", "customcpu", "aie"):
        target, graph = targets.get(name), quantized(model, *rules)
        fuse(graph, target.fusions)
        lower(graph, target, Recipe("int", rules=rules))
        results[name] = torch.cat([value[real] for value in graph(**given).values()])
    return results


@pytest.mark.parametrize("precision", ["fp", "bf16"])
@pytest.mark.parametrize("model, name", ONE, ids=SHORT)
def test_any_one_linear(model, name, precision):
    source = quantized(model, Rule(name, precision))
    graph, counts = fused(source)
    assert_same(graph, source, inputs(model, mask_of("right")), packed=True)
    assert (counts["attention"], counts["rows"], counts["packing"], counts["lookups"]) == (2, 2, 1, 1)
    results = of_targets(model, Rule(name, precision))
    assert_sqnr(results["customcpu"], results["cpu"], TARGET_DB)
    assert_equal_bits(results["aie"], results["customcpu"])


MIXTURES = {
    "qkv in bf16": (Rule(QKV, "bf16"),),
    "qkv in fp": (Rule(QKV, "fp"),),
    "attention in fp": (Rule("*.attention.*", "fp"),),
    "feed-forward in bf16": (Rule("*.attention.*", "int"), Rule("*.dense", "bf16")),
    "all in bf16": (Rule("bert.*", "bf16"),),
    "head in int": (Rule("qa_outputs", "int"),),
    "down asymmetric": (Rule("*.[01].output.dense", symmetric=False),),
    "query asymmetric, key in fp": (Rule("*.query", symmetric=False), Rule("*.key", "fp")),
}


@pytest.mark.parametrize("padding", ["right", "scattered", "none"])
@pytest.mark.parametrize("rules", MIXTURES.values(), ids=MIXTURES)
def test_mixtures(rules, padding):
    source = quantized("bert", *rules)
    graph, counts = fused(source)
    assert_same(graph, source, inputs("bert", mask_of(padding)), packed=True)
    assert (counts["attention"], counts["rows"], counts["packing"], counts["lookups"]) == (2, 2, 1, 1)


@pytest.mark.parametrize("rules", MIXTURES.values(), ids=MIXTURES)
def test_mixtures_on_every_target(rules):
    results = of_targets("bert", *rules)
    assert_sqnr(results["customcpu"], results["cpu"], TARGET_DB)
    assert_equal_bits(results["aie"], results["customcpu"])


@pytest.mark.parametrize("precision, kind", [("fp", torch.nn.Linear), ("bf16", Bf16Linear), ("int", QuantizedLinear)])
def test_query_key_and_value_are_one_linear_in_every_precision(precision, kind):
    graph, counts = fused(quantized("bert", Rule(QKV, precision)), set(NAMES) - {"feed_forward"})
    merged = graph.get_submodule("bert.encoder.layer.1.attention.self.qkv")
    inside = merged.linear if precision == "int" else merged
    assert counts["qkv"] == 2 and type(inside) is kind and inside.out_features == 96


def test_norms_that_nothing_quantizes_are_fused_too():
    counts = fused(quantized("bert", Rule("bert.*", "fp")))[1]
    assert (counts["quantize"], counts["add_norm"], counts["embeddings"], counts["lookups"]) == (0, 4, 1, 1)


@pytest.mark.parametrize("target, kind", [("cpu", Bf16Linear), ("customcpu", PackedFloatLinear)])
def test_what_computes_it(target, kind):
    graph = transform(model_of("bert"), Recipe("int", rules=(Rule("*.output.dense", "bf16"),)), target)
    names = [entry["name"] for entry in report_of(graph).kept if entry["precision"] == "bf16"]
    assert len(names) == 4
    for name in names:
        module = graph.get_submodule(name)
        weight = module.packed if target == "customcpu" else module.weight
        assert type(module) is kind and weight.dtype == torch.bfloat16


def test_bf16_layer_is_float32_outside():
    """Its error is bfloat16's: two roundings to 8 bits, and on PyTorch's kernel the result's."""
    linear = torch.nn.Linear(40, 24)
    x = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(0))
    low = Bf16Linear(linear)
    assert low(x).dtype == torch.float32 and low.bias.dtype == torch.float32
    assert_sqnr(low(x), linear(x), 45)
    without = Bf16Linear(torch.nn.Linear(40, 24, bias=False))
    assert without(x).shape == (2, 7, 24) and without.bias is None


def test_the_model_keeps_its_weights():
    model = model_of("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = quantized("bert", Rule("*.query", "bf16"))
    assert sum(type(module) is Bf16Linear for module in linears_of(graph).values()) == 2
    for name, value in model.state_dict().items():
        assert_equal_bits(value, before[name], name)
