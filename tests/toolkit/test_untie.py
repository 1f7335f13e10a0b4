"""The tied head of a language model in 8 bits, beside an embedding that stays as it was."""

import pytest
from torch import nn

from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit.tied import GPT2_LINEARS, MODELS, RECIPES, build, gpt2, logits, table_of
from toolkit import Recipe, Rule, UsageError, report_of, transform
from toolkit.pipeline import captured, lowered, quantized
from toolkit.sensitivity.layers import measure_layers
from toolkit.sensitivity.variants import Variants


@pytest.mark.parametrize("name", MODELS)
def test_the_captured_graph_says_what_the_model_says(name: str) -> None:
    model, (_, head, table) = build(name), MODELS[name]
    graph = captured(model, "int")
    batch = tiny.inputs(model, 2, 9)
    assert_equal_bits(logits(graph, batch), logits(model, batch))
    linear = graph.get_submodule(head)
    assert type(linear) is nn.Linear
    # two parameters, one memory: swapping, smoothing or moving the linear is nothing to the embedding
    assert linear.weight is not table_of(graph, table)
    assert (
        linear.weight.data_ptr() == table_of(graph, table).data_ptr() == model.get_input_embeddings().weight.data_ptr()
    )


@pytest.mark.parametrize("precision", ["fp", "bf16"])
def test_elsewhere_it_stays_tied(precision: str) -> None:
    kept = report_of(transform(gpt2(), Recipe(precision))).kept
    why = {entry["name"]: entry["why"] for entry in kept}
    assert why["lm_head"] == "its weight is shared with aten.embedding.default"


@pytest.mark.parametrize("scheme", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_the_head_is_quantized_and_the_embedding_is_not(name: str, scheme: str) -> None:
    model, (_, head, table) = build(name), MODELS[name]
    before = model.get_input_embeddings().weight.detach().clone()
    graph = quantized(model, RECIPES[scheme])
    assert type(graph.get_submodule(head)) is {"dynamic": QuantizedLinear, "weight": WeightLinear}[scheme]
    assert_equal_bits(table_of(graph, table), before)
    batch = tiny.inputs(model, 2, 9)
    want, kept = logits(model, batch), Recipe("int", RECIPES[scheme].scheme, keep=(head,))
    for target in ("cpu", "customcpu", "aie") if scheme == "dynamic" else ("cpu", "customcpu"):
        made = transform(model, RECIPES[scheme], target)
        assert head not in [entry["name"] for entry in report_of(made).kept]
        # its own rounding, and no more: a table that was rounded too would show in every layer
        assert sqnr(logits(made, batch), want) > sqnr(logits(transform(model, kept, target), batch), want) - 6
    assert_equal_bits(model.get_input_embeddings().weight, before)


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
def test_a_recipe_names_it(target: str) -> None:
    model, batch = gpt2(), tiny.inputs(gpt2(), 2, 9)
    for keep, rules in ((("lm_head",), ()), ((), (Rule("lm_head", "fp"),)), ((), (Rule("lm_head", "bf16"),))):
        report = report_of(made := transform(model, Recipe("int", keep=keep, rules=rules), target))
        assert (report.swapped, [entry["name"] for entry in report.kept]) == (GPT2_LINEARS - 1, ["lm_head"])
        assert_sqnr(logits(made, batch), logits(model, batch), 30)
    with pytest.raises(UsageError, match="'lm_haed' matches none of the 9 linears, such as lm_head"):
        transform(model, Recipe("int", keep=("lm_haed",)), target)


def test_a_head_kept_in_float_has_no_copy_of_the_table() -> None:
    graph = quantized(gpt2(), Recipe("int", keep=("lm_head",)))
    assert graph.get_parameter("lm_head.weight").data_ptr() == table_of(graph, "transformer.wte").data_ptr()


def test_sensitivity_measures_it() -> None:
    variants = Variants.of(captured(gpt2(), "int"), Recipe("int"), "customcpu", "fp")
    costs, _, _ = measure_layers(variants, [tiny.inputs(gpt2(), 2, 9)])
    assert len(costs) == GPT2_LINEARS and costs[-1].name == "lm_head" and 30 < costs[-1].logits_db < 60


def test_smoothing_leaves_the_table_alone() -> None:
    model, data = gpt2(), [tiny.inputs(gpt2(), 3, 17, seed) for seed in range(2)]
    graph = quantized(model, Recipe("int", scheme="static"), data)
    assert_equal_bits(table_of(graph, "transformer.wte"), model.get_input_embeddings().weight)
    assert_sqnr(logits(lowered(graph, Recipe("int"), "cpu"), data[0]), logits(model, data[0]), 25)
