"""A captured graph equals the eager model, bit for bit, at any batch and sequence length."""

import copy
import sys
from functools import cache

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering

from tests import tiny
from toolkit import CaptureError, UsageError, capture
from toolkit.capture import replace_conv1d

EVERY = [*tiny.BUILDERS, tiny.TIED]
SIZES = [(1, 1), (1, 7), (3, 17), (2, tiny.POSITIONS)]


@pytest.fixture(autouse=True)
def exported_anew(monkeypatch):
    monkeypatch.setattr(sys.modules["toolkit.capture"], "export", torch.export.export)


def tensors(output):
    return {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}


@cache
def model_and_graph(name):
    """→ a model and its graph, for tests that change neither"""
    model = tiny.build(name)
    return model, capture(model)


@pytest.fixture(params=EVERY)
def pair(request):
    return model_and_graph(request.param)


def reference(model: nn.Module) -> nn.Module:
    """GPT-2's Conv1D goes through another kernel than Linear, which may round the last bit differently: the
    graph is exactly the model with Linear in its place, and those two models are compared apart."""
    private = copy.deepcopy(model)
    replace_conv1d(private)
    return private


@pytest.mark.parametrize("batch, sequence", SIZES)
def test_equals_eager(pair, batch, sequence):
    model, graph = pair
    given = tiny.inputs(model, batch, sequence)
    with torch.no_grad():
        expected = reference(model)(**given, use_cache=False)
    result = graph(**given)
    assert type(result) is type(expected)
    assert tensors(result).keys() == tensors(expected).keys()
    for name, value in tensors(result).items():
        assert torch.equal(value, expected[name]), name


def test_equals_eager_without_padding(pair):
    model, graph = pair
    given = tiny.inputs(model, 2, 20)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    with torch.no_grad():
        expected = reference(model)(**given, use_cache=False)
    assert torch.equal(graph(**given)[0], expected[0])


@pytest.mark.parametrize("name", ["gpt2", tiny.TIED])
def test_conv1d_becomes_linear(name):
    model = tiny.build(name)
    given = tiny.inputs(model, 3, 17)
    with torch.no_grad():
        torch.testing.assert_close(reference(model)(**given)[0], model(**given)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "albert", tiny.TIED])
def test_the_model_stays_as_it_was(name):
    model = tiny.build(name).train()
    before = copy.deepcopy(model)
    capture(model)
    assert str(model) == str(before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert model.config.to_dict() == before.config.to_dict()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_training_model_gives_the_evaluation_graph():
    model = tiny.build("bert")
    given = tiny.inputs(model, 2, 9)
    with torch.no_grad():
        expected = model(**given)[0]
    graph = capture(model.train())
    assert torch.equal(graph.train()(**given)[0], expected)
    assert torch.equal(graph.eval()(**given)[0], expected)
    assert not graph(**given)[0].requires_grad


def test_weights_are_shared_not_copied():
    model, graph = model_and_graph("bert")
    shared = {parameter.data_ptr() for parameter in model.parameters()}
    assert {parameter.data_ptr() for parameter in graph.parameters()} <= shared


def test_bfloat16_leaves_the_model_in_float32():
    model = tiny.build("bert")
    graph = capture(model, torch.bfloat16)
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_eager_attention_is_captured_too():
    model = tiny.build("bert")
    model.set_attn_implementation("eager")
    given = tiny.inputs(model, 3, 11)
    with torch.no_grad():
        assert torch.equal(capture(model)(**given)[0], model(**given)[0])


def test_left_out_inputs_are_filled_in():
    model, graph = model_and_graph("bert")
    given = tiny.inputs(model, 2, 8)
    full = {"attention_mask": torch.ones_like(given["input_ids"]), "token_type_ids": 0 * given["input_ids"]}
    assert torch.equal(graph(given["input_ids"])[0], graph(input_ids=given["input_ids"], **full)[0])


@pytest.mark.parametrize("name", ["roberta", "distilbert"])
def test_token_types_need_not_be_left_out(name):
    model, graph = model_and_graph(name)
    given = tiny.inputs(model, 2, 8)
    assert "token_type_ids" not in given
    assert torch.equal(graph(**given, token_type_ids=0 * given["input_ids"])[0], graph(**given)[0])


IDS = torch.ones(2, 8, dtype=torch.int64)


@pytest.mark.parametrize(
    "given, line",
    [
        ({}, "without input_ids"),
        ({"input_ids": IDS[0]}, r"must be \[batch, sequence\].*got \[8\]"),
        ({"input_ids": IDS[:0]}, r"neither of them 0; got \[0, 8\]"),
        ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"shape of input_ids, \[2, 8\]; got \[1, 8\]"),
        ({"input_ids": IDS, "labels": IDS}, "got also labels"),
        ({"input_ids": IDS.repeat(1, 9)}, "at most 64 tokens have positions; got 72"),
    ],
    ids=["none", "flat", "empty", "mask", "unknown", "long"],
)
def test_bad_calls_get_one_line(given, line):
    with pytest.raises(UsageError, match=line) as caught:
        model_and_graph("bert")[1](**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, longest", [("roberta", tiny.POSITIONS), ("gpt2", tiny.POSITIONS)])
def test_too_long_is_refused_by_the_positions_that_there_are(name, longest):
    model, graph = model_and_graph(name)
    with pytest.raises(UsageError, match=f"at most {longest} tokens"):
        graph(**tiny.inputs(model, 1, longest + 1))


def test_a_copy_checks_its_calls_too():
    with pytest.raises(UsageError, match="without input_ids"):
        copy.deepcopy(model_and_graph("bert")[1])()


def test_a_model_without_input_ids_is_refused():
    with pytest.raises(UsageError, match="takes input_ids"):
        capture(nn.Linear(2, 2))


class Pinned(nn.Module):
    def forward(self, input_ids):
        return input_ids + torch.ones(2, 16)


class Branching(nn.Module):
    def forward(self, input_ids):
        return input_ids + 1 if input_ids.sum() > 0 else input_ids


@pytest.mark.parametrize("model", [Pinned(), Branching()], ids=["pinned", "branching"])
def test_what_cannot_be_captured_says_so(model):
    with pytest.raises(CaptureError, match=type(model).__name__) as caught:
        capture(model)
    assert "\n" not in str(caught.value)


def test_short_models_are_captured():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=10, max_position_embeddings=4, **sizes)
    model = BertForQuestionAnswering(config).eval()
    ids = torch.ones(3, 4, dtype=torch.int64)
    with torch.no_grad():
        assert torch.equal(capture(model)(input_ids=ids)[0], model(input_ids=ids, attention_mask=ids)[0])


def test_memory_that_runs_out_is_no_fault_of_the_model(monkeypatch):
    def starved(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(sys.modules["toolkit.capture"], "export", starved)
    with pytest.raises(CaptureError, match="memory ran out; free some, or compute on fewer threads") as caught:
        capture(tiny.build("bert"))
    assert "torch.export has to accept" not in str(caught.value)
