"""Smoothing: what it leaves as it was, what it costs, what it brings, and where it is done."""

import pytest

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit.equalizing import INT, OFF, captured, planted
from toolkit import Recipe, Rule, report_of, transform
from toolkit.equalize.observe import observe
from toolkit.equalize.smooth import NORM, smooth
from toolkit.fuse import NAMES
from toolkit.fuse.matching import aten
from toolkit.pipeline import clean
from toolkit.quantize import chosen

# linears whose norm can take it in; ALBERT calls the rest many times, ELECTRA and ALBERT have projections before
SMOOTHED = {"bert": 8, "distilbert": 8, "roberta": 8, "electra": 6, "albert": 1, "gpt2": 4}


def count(graph, target):
    return len(graph.graph.find_nodes(op="call_function", target=target))


@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_the_float_graph_computes_the_same_after_smoothing(name):
    model, batches = planted(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph = captured(model)
    expected = graph(**batches[-1])
    done = smooth(graph, observe(graph, batches[:-1], chosen(graph, INT)), INT)
    clean(graph)
    assert len(done) == SMOOTHED[name]
    for logits in ("start_logits", "end_logits"):
        assert_sqnr(getattr(graph(**batches[-1]), logits), getattr(expected, logits), 100)
    for key, value in model.state_dict().items():
        assert_equal_bits(value, before[key], f"{key} of the model itself")


@pytest.mark.parametrize(("name", "more"), [("bert", 4), ("gpt2", 0)], ids=["post-norm", "pre-norm"])
def test_only_a_norm_that_others_read_costs_an_operator(name, more):
    model, batches = planted(name)
    graph = captured(model)
    before = {target: count(graph, target) for target in (NORM, aten.addcmul.default)}
    smooth(graph, observe(graph, batches, chosen(graph, INT)), INT)
    clean(graph)
    assert count(graph, NORM) == before[NORM]
    assert count(graph, aten.addcmul.default) == before[aten.addcmul.default] + more


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_smoothing_outliers_brings_decibels(symmetric):
    model, batches = planted("bert")
    recipe = Recipe(precision="int", symmetric=symmetric)
    graph = captured(model)
    done = smooth(graph, observe(graph, batches[:-1], chosen(graph, recipe)), recipe)
    assert all(change.error <= change.before for change in done.values())
    expected = model(**batches[-1]).start_logits
    plain, smoothed = (
        transform(model, Recipe(precision="int", symmetric=symmetric, **{**OFF, "smooth": on}), data=batches[:-1])
        for on in (False, True)
    )
    gained = sqnr(smoothed(**batches[-1]).start_logits, expected) - sqnr(plain(**batches[-1]).start_logits, expected)
    assert gained > 3


def test_smoothing_goes_by_the_rules_of_single_linears():
    """What a linear's own rule says decides its change; the recipe's own way would make another."""
    model, batches = planted("bert")
    linear = "bert.encoder.layer.0.intermediate.dense"  # it alone reads its norm
    ways = {"symmetric": Rule(linear, symmetric=True), "16 bits": Rule(linear, activation_bits=16), "none": None}
    found = {}
    for name, rule in ways.items():
        recipe = Recipe("int", rules=(rule,) if rule else ())
        graph = captured(model)
        change = smooth(graph, observe(graph, batches[:-1], chosen(graph, recipe)), recipe)[linear]
        found[name] = change.before
    whole = captured(model)
    all_symmetric = Recipe("int", symmetric=True)
    expected = smooth(whole, observe(whole, batches[:-1], chosen(whole, all_symmetric)), all_symmetric)[linear].before
    assert found["symmetric"] == expected != found["none"] and found["16 bits"] < found["none"]


def test_a_linear_with_float_activations_is_not_smoothed():
    model, batches = planted("bert")
    recipe = Recipe("int", rules=(Rule("*.intermediate.dense", scheme="weight"),))
    graph = captured(model)
    done = smooth(graph, observe(graph, batches[:-1], chosen(graph, recipe)), recipe)
    assert len(done) == SMOOTHED["bert"] - 2 and not any("intermediate" in name for name in done)


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_targets_give_the_same_integers_after_smoothing(scheme):
    """The head has a float kernel of its own on two of them; one level that differs would cost 60 dB."""
    model, batches = planted("bert")
    recipe = Recipe("int", scheme=scheme, without=NAMES)
    cpu, *others = (transform(model, recipe, target, data=batches[:-1]) for target in ("cpu", "customcpu", "aie"))
    assert report_of(cpu).equalized["smooth"] == SMOOTHED["bert"]
    real = batches[-1]["attention_mask"].bool()
    for other in others:
        assert_sqnr(other(**batches[-1]).start_logits[real], cpu(**batches[-1]).start_logits[real], 115)
