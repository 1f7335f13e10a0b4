"""A head that was tied, in folders and files: both weights are there, and read by others."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
)

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.tied import GPT2_LINEARS, MODELS, RECIPES, build, gpt2, logits, table_of
from toolkit import Recipe, checkpoint, report_of, transform
from toolkit.adopt import adopted
from toolkit.export import onnx_file, pt2
from toolkit.onnx_session import open_session
from toolkit.pipeline import quantized
from toolkit.recipe import Rule


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


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2"])  # its Conv1Ds are for nobody else
def test_the_head_is_a_target_by_its_name(name: str, tmp_path: Path) -> None:
    """vLLM's class of a head is no Linear"""
    model, head = build(name), MODELS[name][1]
    apart, kept = Recipe("int", symmetric=True, rules=(Rule(head, symmetric=False),)), Recipe("int", keep=(head,))
    for recipe, targets in ((Recipe("int"), ["Linear", head]), (apart, [head]), (kept, ["Linear"])):
        checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
        quantization = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["quantization_config"]
        assert targets in [group["targets"] for group in quantization["config_groups"].values()]
        assert (head in quantization["ignore"]) == (recipe is kept)


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
