"""Linears whose inputs are rotated: the float graph is as before, the integers are those of rotated rows, and outliers
cost less."""

import pytest
import torch

from operators import quantize_weight, reference
from targets._linear import QuantizedLinear
from targets.base import UsageError
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit import families
from tests.toolkit.equalizing import INT, OFF, captured, planted
from toolkit import Recipe, Rule, report_of, transform
from toolkit.elsewhere import require_possible
from toolkit.equalize.rotate import rotate
from toolkit.fake_quantize import fake_quantize
from toolkit.fuse import NAMES
from toolkit.fuse.rotation import fuse_rotation
from toolkit.pipeline import quantized
from toolkit.quantize import chosen
from toolkit.recipe_file import dump, parse
from toolkit.rotated import Rotated, block_of, counter_rotated

ROTATED = Recipe("int", rotate=True)
QUERY = "bert.encoder.layer.0.attention.self.query"
BOTH = {"activation_bits": 16, "weight_bits": 16}
# linears that round activations, those of them that are rotated (not those of 52 inputs), and what is rotated for them
COUNTS = {
    "bert": (12, 10, 6),
    "distilbert": (12, 10, 6),
    "gpt2": (8, 6, 6),
    tiny.TIED: (9, 7, 7),
    "albert": (7, 6, 7),  # its layers are one, which is called twice
    "llama": (14, 12, 6),
}


def build(name):
    return families.build(name) if name in families.MODELS else tiny.build(name)


def answers(graph, batch):
    """→ the first output, at the real tokens"""
    with torch.no_grad():
        found = graph(**batch)
    return found[next(iter(found.keys()))][batch["attention_mask"].bool()]


def turns(graph):
    return [node for node in graph.graph.nodes if node.op == "call_module" and is_turn(graph, node)]


def is_turn(graph, node):
    return isinstance(graph.get_submodule(node.target), Rotated)


@pytest.mark.parametrize("name", COUNTS)
def test_the_float_graph_answers_as_before(name):
    model, (linears, done, shared) = build(name), COUNTS[name]
    graph, batch = captured(model), tiny.inputs(model, 3, 20)
    before, weights = answers(graph, batch), [parameter.clone() for parameter in model.parameters()]
    names = chosen(graph, INT)
    assert (len(names), rotate(graph, names, INT), len(turns(graph))) == (linears, done, shared)
    graph.recompile()
    assert_sqnr(answers(graph, batch), before, 110)
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        assert_equal_bits(parameter.detach(), weight.detach())


def test_what_rounds_no_activations_is_left_alone():
    graph = captured(tiny.build("bert"))
    recipe = Recipe(
        "int", keep=("*.key", "qa_outputs"), rules=(Rule("*.value", scheme="weight"), Rule("*.query", precision="bf16"))
    )
    done = rotate(graph, chosen(graph, recipe), recipe)
    read = {user.target.rpartition(".")[2] for node in turns(graph) for user in node.users}
    assert done == 4 and read == {"dense"}
    every = transform(tiny.build("bert"), Recipe("int", scheme="weight", rotate=True), "customcpu")
    assert report_of(every).equalized["rotate"] == 0


@pytest.mark.parametrize("columns, block", [(4, 0), (52, 0), (8, 8), (24, 8), (48, 16), (384, 128), (1024, 128)])
def test_the_largest_block_that_divides(columns, block):
    assert block_of(columns) == block


@pytest.mark.parametrize("block", [8, 32, 128])
def test_weights_are_rotated_to_match(block):
    x, weight = torch.randn(5, 2 * block).double(), torch.randn(7, 2 * block)
    product = Rotated(block)(x) @ counter_rotated(weight, block).double().t()
    assert_sqnr(product, x @ weight.double().t(), 130)
    assert_sqnr(Rotated(block)(x), reference.rotated(x, block), 250)


@pytest.mark.parametrize("name", ["bert", "gpt2", tiny.TIED, "albert"])
def test_rotating_becomes_a_part_of_rounding(name):
    model = build(name)
    graph, batch = quantized(model, ROTATED), tiny.inputs(model, 3, 20)
    before = answers(graph, batch)
    calls = sum(len(node.users) for node in turns(graph))
    assert fuse_rotation(graph) == calls
    graph.graph.eliminate_dead_code()
    graph.recompile()
    assert not turns(graph)
    assert_sqnr(answers(graph, batch), before, 60)
    blocks = [module.activation.rotation for module in graph.modules() if isinstance(module, QuantizedLinear)]
    assert sorted(set(blocks)) in ([0, 32], [0, 16, 32])


def test_integers_are_those_of_rotated_rows():
    """What the linear's own arithmetic gives of rows that were rotated before."""
    graph = quantized(tiny.build("bert"), ROTATED)
    name = QUERY
    plain, x = graph.get_submodule(name), torch.randn(9, 32)
    fuse_rotation(graph)
    fused = graph.get_submodule(name)
    assert fused is not plain and plain.activation.rotation == 0 and fused.activation.rotation == 32
    assert_equal_bits(fused(x), plain(reference.rotated(x, 32)))
    assert_equal_bits(fused.weight, plain.weight)


def test_weights_are_rounded_after_they_are_rotated():
    model = tiny.build("bert")
    query = model.bert.encoder.layer[0].attention.self.query
    made = quantized(model, Recipe("int", rotate=True, **OFF)).get_submodule(
        "bert.encoder.layer.0.attention.self.query"
    )
    integers, scale = quantize_weight(counter_rotated(query.weight.detach(), 32))
    assert torch.equal(made.weight, integers) and torch.equal(made.scale, scale)


def test_what_a_float_linear_reads_too_stays():
    graph = quantized(tiny.build("bert"), ROTATED)
    name = QUERY
    turn = graph.graph.find_nodes(op="call_module", target=name)[0].args[0]
    graph.set_submodule(name, torch.nn.Linear(32, 32).eval())
    count = sum(len(node.users) for node in turns(graph))
    assert fuse_rotation(graph) == count - 1
    assert [user.target for user in turn.users] == [name]


@pytest.mark.parametrize("scheme, least", [("dynamic", 2), ("static", 4)])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_outlier_channels_cost_less(name, scheme, least):
    """Measured: 3 and 4 dB where each row has its range, 7 and 11 where all rows have one."""
    model, batches = planted(name)
    expected = answers(model, batches[3])
    plain, turned = (
        sqnr(answers(transform(model, recipe, "cpu", data=batches[:3]), batches[3]), expected)
        for recipe in (Recipe("int", scheme=scheme, smooth=False, rotate=rotates) for rotates in (False, True))
    )
    assert turned > plain + least


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_sixteen_bits_are_as_good_as_without(name, target):
    model = tiny.build(name)
    batch = tiny.inputs(model, 3, 20)
    recipe = Recipe("int", rotate=True, attention="fp", **BOTH)
    assert sqnr(answers(transform(model, recipe, target), batch), answers(model, batch)) > 80


@pytest.mark.parametrize("without", [(), ("rotation",), NAMES], ids=["all", "no rotation", "none"])
@pytest.mark.parametrize("scheme", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_targets_agree_with_any_fusions(name, scheme, without):
    model = build(name)
    batch = tiny.inputs(model, 3, 20)
    recipe = Recipe("int", scheme=scheme, rotate=True, without=without, attention="fp")
    whole = answers(transform(model, Recipe("int", scheme=scheme, rotate=True), "cpu", data=[batch]), batch)
    assert_sqnr(whole, answers(model, batch), 25)
    for target in ("customcpu", "aie"):
        graph = transform(model, recipe, target, data=[batch])
        assert ("rotation" in report_of(graph).fused) == (not without)
        assert_sqnr(answers(graph, batch), whole, 45)


def test_recipes_say_it_and_who_cannot_refuses(monkeypatch):
    monkeypatch.setattr("toolkit.elsewhere.require_installed", lambda name: name)
    assert parse(dump(ROTATED), "here") == ROTATED and parse("precision: int\n", "here").rotate is False
    with pytest.raises(UsageError, match="the recipe has rotate; change it"):
        fake_quantize(tiny.build("bert"), ROTATED)
    require_possible(Recipe("int", rotate=True, quantizer="torchao"), None)
