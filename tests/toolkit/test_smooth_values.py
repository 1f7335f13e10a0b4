"""Smoothing of what attention gives: what it leaves as it was, what it brings, and where it is done."""

import pytest
import torch

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit import families
from tests.toolkit.equalizing import INT, OFF, captured
from toolkit import Recipe, Rule, transform
from toolkit.equalize.observe import observe
from toolkit.equalize.values import smooth_values
from toolkit.pipeline import clean
from toolkit.quantize import chosen

# attentions whose values come from a linear of their own, or as a part of one; ALBERT calls its layer many times
SMOOTHED = {"bert": 2, "distilbert": 2, "roberta": 2, "electra": 2, "albert": 0, "gpt2": 2}
TIMES = 30.0


def batches_of(model):
    return [tiny.inputs(model, 3, 20, seed) for seed in range(4)]


def uneven():
    """→ a BERT with two channels of values TIMES as large as they were, which what reads them takes back"""
    model = tiny.build("bert")
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            for parameter in (layer.attention.self.value.weight, layer.attention.self.value.bias):
                parameter[[3, 17]] *= TIMES
            layer.attention.output.dense.weight[:, [3, 17]] /= TIMES
    return model


def smoothed(model, recipe=INT):
    graph, batches = captured(model), batches_of(model)
    done = smooth_values(graph, observe(graph, batches[:-1], chosen(graph, recipe)), recipe)
    clean(graph)
    return graph, done


@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_the_float_graph_computes_the_same_after_smoothing(name):
    model = tiny.build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = batches_of(model)[-1]
    expected = captured(model)(**batch)
    graph, done = smoothed(model)
    assert len(done) == SMOOTHED[name]
    for logits in ("start_logits", "end_logits"):
        assert_sqnr(getattr(graph(**batch), logits), getattr(expected, logits), 100)
    for key, value in model.state_dict().items():
        assert_equal_bits(value, before[key], f"{key} of the model itself")


@pytest.mark.parametrize(("scheme", "least"), [("dynamic", 6), ("static", 3)])
def test_uneven_values_no_longer_cost_decibels(scheme, least):
    model = uneven()
    batches = batches_of(model)
    expected = model(**batches[-1]).start_logits
    plain, even = (
        transform(model, Recipe("int", scheme=scheme, **{**OFF, "smooth": on}), data=batches[:-1])
        for on in (False, True)
    )
    gained = sqnr(even(**batches[-1]).start_logits, expected) - sqnr(plain(**batches[-1]).start_logits, expected)
    assert gained > least


def test_the_integers_of_even_values_are_spread():
    """What the output's linear reads has the same size in every channel, but for the search's α."""
    model = uneven()
    graph, done = smoothed(model)
    seen = observe(graph, batches_of(model)[:-1], chosen(graph, INT))
    for name in done:
        size = torch.maximum(seen[name].high, -seen[name].low)
        assert size.max() < TIMES / 5 * size.median()


@pytest.mark.parametrize(
    "rule",
    [Rule("*.attention.output.dense", scheme="weight"), Rule("*.attention.output.dense", precision="fp")],
    ids=["float activations", "in float"],
)
def test_what_rounds_no_activations_is_left_alone(rule):
    assert not smoothed(uneven(), Recipe("int", rules=(rule,)))[1]


class Shared(torch.nn.Module):
    """Attention whose values are read by more than itself, or are its keys too, by a view of their own or not."""

    def __init__(self, keys: bool, apart: bool = True) -> None:
        super().__init__()
        self.keys, self.apart = keys, apart
        self.embed = torch.nn.Embedding(20, 16)
        self.query, self.value, self.out = (torch.nn.Linear(16, 16) for _ in range(3))

    def forward(self, input_ids):
        def heads(x):
            return x.view(*x.shape[:2], 2, 8).transpose(1, 2)

        hidden = self.embed(input_ids)
        values = self.value(hidden)
        query = heads(self.query(hidden))
        mixed_of = heads(values)
        keys = query if not self.keys else heads(values) if self.apart else mixed_of
        mixed = torch.nn.functional.scaled_dot_product_attention(query, keys, mixed_of)
        mixed = self.out(mixed.transpose(1, 2).reshape(hidden.shape))
        return mixed if self.keys else mixed + values


@pytest.mark.parametrize(
    ("keys", "apart"),
    [(True, True), (True, False), (False, True)],
    ids=["keys too", "the same as keys", "a residual too"],
)
def test_values_that_others_read_are_left_alone(keys, apart):
    graph = captured(Shared(keys, apart).eval())
    data = [{"input_ids": torch.arange(10).view(2, 5)}]
    assert not smooth_values(graph, observe(graph, data, chosen(graph, INT)), INT)


class Earlier(Shared):
    """A token looks at those before it alone: the first at none, and gets zeros."""

    def __init__(self) -> None:
        super().__init__(False)
        with torch.no_grad():
            self.value.bias += 20

    def forward(self, input_ids):
        def heads(x):
            return x.view(*x.shape[:2], 2, 8).transpose(1, 2)

        hidden = self.embed(input_ids)
        query, values = heads(self.query(hidden)), heads(self.value(hidden))
        seen = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool).tril(-1)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, query, values, attn_mask=seen)
        return self.out(mixed.transpose(1, 2).reshape(hidden.shape))


def test_a_token_that_looks_at_none_keeps_its_zeros():
    graph = captured(Earlier().eval())
    given = {"input_ids": torch.arange(10).view(2, 5)}
    before = graph(**given)
    done = smooth_values(graph, observe(graph, [given], chosen(graph, INT)), INT)
    clean(graph)
    assert len(done) == 1 and not next(iter(done.values())).shift.any()
    assert_sqnr(graph(**given), before, 100)


def test_turned_queries_and_keys_do_not_matter():
    assert len(smoothed(families.build("llama"))[1]) == 2
