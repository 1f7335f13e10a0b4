"""The tied head of a language model in 8 bits, beside an embedding that stays as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit.test_cache import SMALL
from toolkit import Recipe, Rule, UsageError, checkpoint, report_of, transform
from toolkit.adopt import adopted
from toolkit.export import onnx_file, pt2
from toolkit.onnx_session import open_session
from toolkit.pipeline import captured, lowered, quantized
from toolkit.sensitivity.layers import measure_layers
from toolkit.sensitivity.variants import Variants

ENCODER = {**SMALL, "type_vocab_size": 1}


def gpt2() -> nn.Module:
    return tiny.build(tiny.TIED)


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True))


def bert() -> nn.Module:
    return BertForMaskedLM(BertConfig(**ENCODER))


def roberta() -> nn.Module:
    return RobertaForMaskedLM(RobertaConfig(**{**ENCODER, "max_position_embeddings": tiny.POSITIONS + 2}))


# how a model is made, the name of its head, and of the table that is the head's weight as well
MODELS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "gpt2": (gpt2, "lm_head", "transformer.wte"),
    "llama": (llama, "lm_head", "model.embed_tokens"),
    "bert": (bert, "cls.predictions.decoder", "bert.embeddings.word_embeddings"),
    "roberta": (roberta, "lm_head.decoder", "roberta.embeddings.word_embeddings"),
}
RECIPES = {"dynamic": Recipe("int"), "weight": Recipe("int", scheme="weight")}
GPT2_LINEARS = 9  # its head, and four in each of two layers


def build(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name][0]().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1 and name != "gpt2":  # biases that are not 0
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def logits(run: Callable[..., object], batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return run(**batch).logits[batch["attention_mask"].bool()]  # type: ignore[attr-defined]


def table_of(graph: nn.Module, name: str) -> torch.Tensor:
    return graph.get_parameter(f"{name}.weight")


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


@pytest.mark.parametrize("scheme", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_holds_both(name: str, scheme: str, tmp_path: Path) -> None:
    model, (_, head, table), recipe = build(name), MODELS[name], RECIPES[scheme]
    found = checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["tie_word_embeddings"] is False
    loaded, batch = checkpoint.load(tmp_path / "saved"), tiny.inputs(model, 2, 9)
    assert_equal_bits(table_of(loaded, table), model.get_input_embeddings().weight)
    assert loaded.get_submodule(head).weight.dtype == torch.int8
    for target in ("cpu", "customcpu"):
        direct = transform(model, recipe, target)
        assert_equal_bits(logits(transform(loaded, target=target), batch), logits(direct, batch))
    if found.portable is None:
        tensors = load_file(tmp_path / "saved" / "model.safetensors")
        assert tensors[f"{table}.weight"].dtype == torch.float32 and f"{head}.weight_scale" in tensors


def test_a_head_in_float_stays_tied_in_its_folder(tmp_path: Path) -> None:
    model, recipe = build("llama"), Recipe("int", keep=("lm_head",))
    checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["tie_word_embeddings"] is True
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    assert len({"lm_head.weight", "model.embed_tokens.weight"} & tensors.keys()) == 1


@pytest.mark.parametrize("scheme", RECIPES)
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_transformers_takes_nothing_of_it_for_another(name: str, scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors, which proves the layout, is not installed")
    model, recipe, place = build(name), Recipe("int", scheme, symmetric=True, smooth=False), tmp_path / "saved"
    checkpoint.save(quantized(model, recipe), model, recipe, place)
    auto = AutoModelForCausalLM if name == "llama" else AutoModelForMaskedLM
    other, notes = auto.from_pretrained(place, output_loading_info=True)
    assert not any(notes.values()), notes
    batch = tiny.inputs(model, 2, 9)
    ours = logits(transform(checkpoint.load(place)), batch)
    # theirs divides a row's largest value by 127.5, ours by 127: two roundings of the same numbers
    assert_sqnr(ours, logits(other.eval(), batch), 100 if scheme == "weight" else 20)
    assert_equal_bits(other.get_input_embeddings().weight, model.get_input_embeddings().weight)
    for own in ("opswap.json", "opswap.safetensors"):
        (place / own).unlink()
    found = checkpoint.read(place)
    model.config.tie_word_embeddings = False
    untied = type(model)(model.config).eval()
    untied.load_state_dict(found.state)
    assert_equal_bits(logits(transform(adopted(untied, found.layers)), batch), ours)


@pytest.mark.parametrize("scheme", RECIPES)
def test_files_hold_both(scheme: str, tmp_path: Path) -> None:
    model, recipe = gpt2(), RECIPES[scheme]
    graph, batch = quantized(model, recipe), tiny.inputs(gpt2(), 2, 9)
    assert pt2.write(checkpoint.copied(graph), tmp_path / "model.pt2", {}) == GPT2_LINEARS
    made = onnx_file.write(checkpoint.copied(graph), tmp_path / "model.onnx", {})
    assert made.linears == GPT2_LINEARS
    want = logits(transform(model, recipe), batch)
    for read in (pt2.read(tmp_path / "model.pt2"), open_session(tmp_path / "model.onnx")):
        assert_sqnr(logits(read, batch), want, 35)
    if scheme == "dynamic":  # a Q/DQ graph comes in again, as the same integers
        again = transform(pt2.read(tmp_path / "model.pt2"), recipe)
        assert report_of(again).swapped == GPT2_LINEARS
        assert_sqnr(logits(again, batch), want, 100)
