"""16 bits as two terms of 8: what it brings, that all products stay int8, and that every target agrees."""

from pathlib import Path

import pytest
import torch

from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from toolkit import Recipe, Rule, UsageError, checkpoint, report_of, transform
from toolkit.fake_quantize import fake_quantize
from toolkit.fuse import NAMES
from toolkit.pipeline import quantized
from toolkit.recipe_file import dump, parse

BOTH = {"activation_bits": 16, "weight_bits": 16}
DOWN = "bert.encoder.layer.1.output.dense"
ops = torch.ops.opswap


def outputs(graph, batch):
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        return graph(**batch).start_logits[real]


@pytest.mark.parametrize("levels", [(True,), (False,), (True, 0.02, 128), (False, 0.0173, 97)], ids=str)
def test_the_error_is_what_the_bytes_leave(levels):
    x = torch.randn(2, 5, 33) * 3 + 0.5
    q, scale, zero = ops.quantize_per_token(x, *levels)
    near = ((q.int() - zero[:, None]) * scale[:, None]).view(x.shape)
    assert_equal_bits(ops.rounding_error(x, *levels), x - near)
    if len(levels) == 1:
        assert (ops.rounding_error(x, *levels).abs().amax() <= scale.amax() * 0.51).all()


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "albert"])
def test_both_terms_are_as_good_as_float(name):
    model = tiny.build(name)
    batch = tiny.inputs(model, 3, 20)
    expected = outputs(model, batch)
    plain, wide = (sqnr(outputs(transform(model, Recipe("int", **bits)), batch), expected) for bits in ({}, BOTH))
    assert wide > plain + 35 and wide > 80


@pytest.mark.parametrize(("bits", "terms"), [("activation_bits", 1), ("weight_bits", 1), (None, 2)], ids=str)
def test_all_products_are_int8(bits, terms):
    given = {bits: 16} if bits else BOTH
    graph = quantized(tiny.build("bert"), Recipe("int", rules=(Rule(f"*{DOWN}", **given),)))
    linears = [name for name, module in graph.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(linears) == 12 + terms and all(graph.get_submodule(name).weight.dtype == torch.int8 for name in linears)
    report = report_of(transform(tiny.build("bert"), Recipe("int", rules=(Rule(DOWN, **given),))))
    assert report.swapped == 12 and list(report.terms) == [DOWN] and len(report.terms[DOWN]) == terms


@pytest.mark.parametrize("given", [BOTH, {"activation_bits": 16}], ids=["both", "activations"])
def test_every_target_gives_the_same_integers_and_sums(given):
    """The head is float and has a kernel of its own on two of them; one level that differs would cost 60 dB."""
    model = tiny.build("bert")
    recipe = Recipe("int", **given, without=NAMES)
    batch = tiny.inputs(model, 3, 20)
    expected = outputs(quantized(model, recipe), batch)
    for target in ("cpu", "customcpu", "aie"):
        assert_sqnr(outputs(transform(model, recipe, target), batch), expected, 115)


@pytest.mark.parametrize("target", ["customcpu", "aie"])
def test_fused_graphs_have_it_too(target):
    model = tiny.build("bert")
    batch = tiny.inputs(model, 3, 20)
    recipe = Recipe("int", **BOTH, attention="fp")
    graph = transform(model, recipe, target)
    assert report_of(graph).fused["rows"] == 2 and report_of(graph).fused["packing"] == 1
    assert sqnr(outputs(graph, batch), outputs(model, batch)) > 80


def test_calibration_keeps_its_first_term():
    model = tiny.build("bert")
    data = [tiny.inputs(model, 3, 20, seed) for seed in range(3)]
    recipe = Recipe("int", scheme="static", **BOTH, compensate=False)
    assert sqnr(outputs(transform(model, recipe, data=data), data[0]), outputs(model, data[0])) > 80


def test_a_saved_folder_has_both_terms(tmp_path: Path) -> None:
    model, recipe = tiny.build("bert"), Recipe("int", rules=(Rule(DOWN, **BOTH),))
    saved = checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    assert saved.portable and "rest_of" in saved.portable
    loaded, batch = checkpoint.load(tmp_path / "saved"), tiny.inputs(model, 2, 9)
    assert report_of(transform(loaded)) == report_of(transform(model, recipe))
    assert_equal_bits(outputs(transform(loaded), batch), outputs(transform(model, recipe), batch))


def test_a_recipe_file_says_it():
    recipe = Recipe(
        "int", activation_bits=16, rules=(Rule("*.query", weight_bits=16), Rule("*.key", activation_bits=8))
    )
    assert parse(dump(recipe), "here") == recipe
    layers = {name: recipe.layer(name) for name in ("a.query", "a.key", "a.value")}
    assert [(layer.activation_bits, layer.weight_bits) for layer in layers.values()] == [(16, 16), (8, 8), (16, 8)]


@pytest.mark.parametrize("given", [{"activation_bits": 12}, {"weight_bits": 4}, {"weight_bits": True}], ids=str)
def test_other_numbers_of_bits_are_refused(given):
    for make in (lambda: Recipe("int", **given), lambda: Rule("*", **given)):
        with pytest.raises(UsageError, match="choose 8, or 16 for two terms of 8"):
            make()
    with pytest.raises(UsageError, match="which has no scheme, zero point or bits"):
        Rule("*", "fp", weight_bits=16)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"scheme": "weight"}, "scheme weight"),
        ({"scheme": "static"}, "scheme static"),
        ({"rules": (Rule("*.query", scheme="static"),)}, "scheme static"),
        ({"activation_bits": 16}, "16 bits"),
        ({"clip": True}, "clip"),
        ({"precision": "fp8"}, "precision fp8"),
    ],
    ids=str,
)
def test_training_is_for_the_integers_of_dynamic_8_bits(given, said):
    wanted = f"training rounds activations and weights to 8 bits, by the range of each row; the recipe has .*{said}"
    with pytest.raises(UsageError, match=wanted):
        fake_quantize(tiny.build("bert"), Recipe(**{"precision": "int", **given}))


RULE = (Rule("*.query", scheme="weight"),)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"scheme": "weight", "weight_bits": 16}, "the recipe has the scheme weight and 16 bits"),
        ({"activation_bits": 16, "rules": RULE}, r"the rule for '\*\.query' has the scheme weight and 16 bits"),
        ({"precision": "fp8", "weight_bits": 16}, "for the precision int; got 'fp8'"),
        ({"precision": "fp", "activation_bits": 16}, "for the precision int; got 'fp'"),
    ],
    ids=["weight", "a rule", "fp8", "fp"],
)
def test_sixteen_bits_where_there_are_no_terms_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Recipe(**{"precision": "int", **given})


def test_a_linear_without_terms_needs_no_bits_of_its_own():
    recipe = Recipe(
        "int", activation_bits=16, rules=(Rule("*.query", "fp"), Rule("*.key", "int", "weight", None, 8, 8))
    )
    assert recipe.layer("a.key").scheme == "weight" and recipe.layer("a.query").precision == "fp"
