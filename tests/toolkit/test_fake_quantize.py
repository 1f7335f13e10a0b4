"""Training through the rounding: the integers are those of `quantize`, gradients those of the dequantized layer."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from operators import reference
from targets import cpu
from targets._linear import Activation, QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from toolkit import Recipe, UsageError, capture
from toolkit.fake_quantize import FakeQuantizedLinear, attend, fake_quantize, open_attention
from toolkit.integers import find_rounding
from toolkit.pipeline import PASSES, captured, run
from toolkit.quantize import quantize

SYMMETRIC = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])


def integer_graph(model: nn.Module, recipe: Recipe) -> torch.fx.GraphModule:
    """What `transform` quantizes, with attention in the same operations as in training."""
    graph = capture(model)
    run(graph, (*PASSES, open_attention))
    quantize(graph, recipe)
    cpu.lower(graph, recipe)
    return graph


def layer(k: int = 19, n: int = 7) -> tuple[nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(k, n)
    for parameter in linear.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return linear, torch.randn(2, 5, k, generator=generator) * 3 + 0.5


@SYMMETRIC
@pytest.mark.parametrize("saved", [torch.float32, torch.float16], ids=str)
def test_the_forward_is_the_quantized_linear_of_what_is_saved(symmetric, saved):
    linear, x = layer()
    have = FakeQuantizedLinear(linear, Activation(symmetric), saved)(x)
    linear.weight.data = linear.weight.data.to(saved).float()
    assert_equal_bits(have.detach(), QuantizedLinear.from_linear(linear, Activation(symmetric))(x))


@SYMMETRIC
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_gradients_pass_straight_through(symmetric, bf16):
    linear, x = layer()
    fake = FakeQuantizedLinear(linear, Activation(symmetric))
    x.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = fake(x)
    assert y.dtype == torch.float32
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    have = torch.autograd.grad(y, [x, linear.weight, linear.bias], upstream)
    q, scale, zero = reference.quantize_per_token(x.detach(), symmetric)
    levels, row_scale = fake.integers()
    rounded = ((q - zero[:, None].double()) * scale[:, None]).view(x.shape).requires_grad_(True)
    weight = (levels * row_scale[:, None].double()).requires_grad_(True)
    bias = linear.bias.detach().double().requires_grad_(True)
    want = torch.autograd.grad(F.linear(rounded, weight, bias), [rounded, weight, bias], upstream.double())
    for given, wanted in zip(have, want, strict=True):
        assert_sqnr(given, wanted, 40 if bf16 else 120)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "electra", "albert"])
@SYMMETRIC
def test_the_graph_is_the_integer_graph_over_the_models_parameters(name, symmetric):
    model = tiny.build(name)
    recipe, inputs = Recipe("int", symmetric=symmetric), tiny.inputs(model, 2, 9)
    graph = fake_quantize(model, recipe)
    with torch.no_grad():
        have, want = graph(**inputs), integer_graph(model, recipe)(**inputs)
    assert_equal_bits(have.start_logits, want.start_logits)
    assert_equal_bits(have.end_logits, want.end_logits)
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in graph.parameters()} <= own
    (graph(**inputs).start_logits ** 2).sum().backward()
    used = [parameter for parameter in graph.parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not used


@pytest.mark.parametrize("mask", ["none", "boolean", "additive"])
def test_attention_in_the_open(mask):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=generator)
    keep = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    keep[0, ..., 4:] = False
    low = torch.zeros(keep.shape).masked_fill(~keep, torch.finfo(torch.float32).min)
    given = {"none": None, "boolean": keep, "additive": low}[mask]
    want = F.scaled_dot_product_attention(q, k, v, given, scale=0.3)
    assert_sqnr(attend(q, k, v, given, scale=0.3), want, 120)
    with torch.autocast("cpu", torch.bfloat16):
        assert_sqnr(attend(q, k, v, given, scale=0.3), want, 35)


@pytest.mark.parametrize("other", [{"is_causal": True}, {"dropout_p": 0.1}, {"enable_gqa": True}], ids=str)
def test_other_attention_stays_as_it_is(other):
    graph = torch.fx.Graph()
    q = graph.placeholder("q")
    attention = torch.ops.aten.scaled_dot_product_attention.default
    graph.output((graph.call_function(attention, (q, q, q), other), graph.call_function(attention, (q, q, q))))
    assert open_attention(torch.fx.GraphModule(nn.Module(), graph)) == 1


@pytest.mark.parametrize(
    ("name", "recipe", "said"),
    [
        ("bert", Recipe("int", keep=("*",)), "no linear layer that is quantized"),
        ("gpt2", Recipe("int"), "is no parameter of the model"),
    ],
    ids=["nothing to round", "Conv1D"],
)
def test_what_cannot_be_trained_is_one_line(name, recipe, said):
    with pytest.raises(UsageError, match=said) as caught:
        fake_quantize(tiny.build(name), recipe)
    assert "\n" not in str(caught.value)


def test_a_calibrated_scale_is_refused():
    with pytest.raises(UsageError, match="by its own range"):
        FakeQuantizedLinear(layer()[0], Activation(scale=0.1))


def test_stored_integers_of_a_tied_head_leave_the_table_alone(monkeypatch):
    config = BertConfig(vocab_size=70, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertForMaskedLM(config).eval()
    table = model.get_input_embeddings().weight.clone()
    given = {"input_ids": torch.arange(20).view(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.int64)}
    stored = find_rounding(captured(model, "int"), Recipe("int"), [given], {})
    by_name = replace(stored, linears={stored.names[key]: one for key, one in stored.linears.items()})
    assert "cls.predictions.decoder" in by_name.linears
    monkeypatch.setattr("toolkit.fake_quantize.fitting", lambda *_: by_name)
    fake_quantize(model, Recipe("int"))
    assert torch.equal(model.get_input_embeddings().weight, table)
