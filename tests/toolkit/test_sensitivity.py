"""Sensitivity: what is measured of a linear, and the recipes that leave some in float."""

import math
from functools import cache

import pytest
import torch

from tests import tiny
from tests.checks import assert_equal_bits, sqnr
from toolkit import Recipe, Rule, UsageError, report_of, transform
from toolkit.pipeline import captured
from toolkit.quantize import linears_of
from toolkit.recipe_file import dump, parse
from toolkit.sensitivity import Variants, measure_layers
from toolkit.sensitivity.fidelity import Fidelity, real_outputs
from toolkit.sensitivity.layers import own_outputs

DOWN = "bert.encoder.layer.1.output.dense"
POOR = "bert.encoder.layer.0.intermediate.dense"


@cache
def model():
    """One linear's weight has a value a row that leaves no levels to the others."""
    made = tiny.build("bert")
    with torch.no_grad():
        made.get_submodule(POOR).weight[:, 3] *= 200
    return made


@cache
def variants(target="cpu", **recipe):
    return Variants.of(captured(model()), Recipe("int", **recipe), target, "bf16")


@cache
def batches():
    return [tiny.inputs(model(), 3, 17), tiny.inputs(model(), 2, 9, seed=2)]


def test_sums_over_batches_are_those_of_the_whole():
    want, got = torch.randn(40, generator=torch.Generator().manual_seed(0)), torch.ones(40)
    found = Fidelity()
    for part in (slice(0, 7), slice(7, 40)):
        found.add(want[part], got[part])
    assert found.sqnr_db == pytest.approx(sqnr(got, want))
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(want, got, dim=0)), abs=1e-6)


@pytest.mark.parametrize(
    "want, got, db, cosine", [(1.0, 1.0, math.inf, 1), (0.0, 0.0, math.inf, 1), (0.0, 1.0, -math.inf, 0)]
)
def test_nothing_and_no_error(want, got, db, cosine):
    found = Fidelity()
    found.add(torch.full((3,), want), torch.full((3,), got))
    assert (found.sqnr_db, found.cosine) == (db, cosine)


def test_padding_does_not_count():
    mask = torch.tensor([[1, 1, 0]])
    output = {"a": torch.tensor([[1.0, 2.0, 99.0]]), "whole": torch.tensor([[5.0, 6.0]]), "ids": mask}
    assert real_outputs(output, mask).tolist() == [1, 2, 5, 6]


def test_own_output_is_that_of_the_quantized_linear():
    found, work = own_outputs(variants(), batches())
    linears = linears_of(variants().graph)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches())
    assert work == {name: tokens * linear.weight.numel() for name, linear in linears.items()}
    assert list(found) == [name for name in linears if name != "qa_outputs"]
    seen = {}
    linears[DOWN].register_forward_hook(lambda module, args, y: seen.update(x=args[0], y=y))
    variants().graph(**batches()[0])
    quantized = transform(model(), Recipe("int"), "cpu").get_submodule(DOWN)
    both = [own_outputs(variants(), batches()[:1])[0][DOWN].sqnr_db]
    real = batches()[0]["attention_mask"].bool()
    both.append(sqnr(quantized(seen["x"][real]), seen["y"][real]))
    assert both[0] == pytest.approx(both[1], abs=1e-6)


@pytest.mark.parametrize("target", ["cpu", "customcpu"])
def test_the_poor_linear_is_found(target):
    seen = []
    costs, whole, none = measure_layers(variants(target), batches(), lambda done, total: seen.append((done, total)))
    named = {cost.name: cost for cost in costs}
    assert max(costs, key=lambda cost: cost.noise).name == POOR == min(costs, key=lambda cost: cost.sqnr_db).name
    assert max(costs, key=lambda cost: cost.spared_db).name == POOR and named[POOR].spared_db > whole + 3
    assert none > 100 if target == "cpu" else 40 < none < 90  # its attention is in bfloat16
    both = named[POOR].noise + 10 ** (-none / 10)
    assert named[POOR].logits_db == pytest.approx(-10 * math.log10(both))
    assert 0 < 1 - sum(cost.share for cost in costs) < 0.05  # the head is the rest
    assert seen == [(done, 12) for done in range(1, 13)]


def test_variants_say_what_is_quantized():
    alone, without = variants().alone(DOWN), variants().without([DOWN, POOR])
    assert [report_of(graph).swapped for graph in (variants().whole(), alone, without)] == [12, 1, 10]
    precisions = {entry["name"]: entry["precision"] for entry in report_of(without).kept}
    assert precisions == {DOWN: "bf16", POOR: "bf16", "qa_outputs": "fp"}
    assert report_of(alone).kept[-1]["name"] == "qa_outputs" and DOWN not in str(report_of(alone).kept)


def test_variants_leave_the_captured_graph_alone():
    given, graph = batches()[0], variants().graph
    before = graph(**given)[0]
    variants().whole()(**given)
    assert_equal_bits(graph(**given)[0], before)
    with torch.no_grad():
        assert_equal_bits(model()(**given)[0], before)


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_calibrated_variants_are_what_transform_makes(scheme):
    """Data is looked at once: every variant has the smoothing, the ranges and the roundings of it."""
    data, given = batches(), batches()[0]
    recipe = Recipe("int", scheme=scheme)
    some = Variants.of(captured(model()), recipe, "cpu", "fp", data)
    assert_equal_bits(some.whole()(**given)[0], transform(model(), recipe, "cpu", data=data)(**given)[0])
    costs, whole, _ = measure_layers(some, data)
    assert len(costs) == 12 and whole > measure_layers(variants(), data)[1]
    repaired = some.without([POOR])
    assert_equal_bits(repaired(**given)[0], some.without([POOR])(**given)[0])
    assert report_of(repaired).equalized["compensate"] == 11 and report_of(repaired).swapped == 11


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_a_recipe_by_itself_is_what_transform_makes(scheme):
    recipe, data = Recipe("int", scheme=scheme), batches()
    some = Variants.of(captured(model()), recipe, "cpu", "fp", data)
    kept = some.names[:2]
    want = transform(model(), some.repaired(kept), "cpu", data=data)
    for batch in data:
        assert_equal_bits(some.applied(kept)(**batch)["start_logits"], want(**batch)["start_logits"])


def test_static_wants_data():
    with pytest.raises(UsageError, match="wants data to calibrate with"):
        Variants.of(captured(model()), Recipe("int", scheme="static"), "cpu", "bf16")


def test_a_repair_by_two_terms():
    some = Variants.of(captured(model()), Recipe("int"), "cpu", "int16")
    repaired = some.without([DOWN, POOR])
    assert report_of(repaired).swapped == 12 and list(report_of(repaired).terms) == [POOR, DOWN]
    expected = model()(**batches()[0])[0]
    whole, better = (sqnr(graph(**batches()[0])[0], expected) for graph in (some.whole(), repaired))
    assert better > whole + 3


def test_only_what_the_recipe_quantizes_is_measured():
    some = variants(rules=(Rule("*.0.*", "fp"), Rule("*.1.output.dense", symmetric=False)))
    assert len(some.names) == 6 and all(".1." in name for name in some.names)
    repaired = some.repaired([DOWN])
    assert [rule.match for rule in repaired.rules] == [DOWN, "*.0.*", "*.1.output.dense"]
    assert some.alone(DOWN).get_submodule(DOWN).activation.symmetric is False


@pytest.mark.parametrize(
    "recipe, said",
    [
        (Recipe("fp"), "what int costs was to be measured; the precision is 'fp'"),
        (Recipe("int", rules=(Rule("*", "fp"),)), "the recipe quantizes no linear of this model"),
    ],
    ids=["fp", "nothing"],
)
def test_nothing_to_measure(recipe, said):
    with pytest.raises(UsageError, match=said):
        Variants.of(captured(tiny.build("bert")), recipe, "cpu", "fp")


def test_the_repaired_recipe_is_a_file():
    repaired = variants().repaired(["x[1]", DOWN])
    assert parse(dump(repaired, ["F1 80"]), "r.yaml") == repaired
    assert repaired.layer("x[1]").precision == "bf16" and repaired.layer("x1").precision == "int"


def test_a_repair_that_the_scheme_has_no_room_for_is_refused_at_once():
    with pytest.raises(UsageError, match="has the scheme weight and 16 bits"):
        Variants.of(captured(model()), Recipe("int", scheme="weight"), "cpu", "int16")


@pytest.mark.parametrize("target", ["cpu", "customcpu"])
def test_a_linears_own_error_is_that_of_all_its_terms(target):
    name = "bert.encoder.layer.1.intermediate.dense"
    rules = (Rule(name, activation_bits=16, weight_bits=16),)
    wide, narrow = (own_outputs(variants(target, rules=given), batches())[0][name] for given in (rules, ()))
    assert wide.sqnr_db > narrow.sqnr_db + 30
