"""Quantized graphs saved and loaded: the same bits on every target, and folders that can't be used are said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from targets._linear import Activation
from targets._whole import QuantizeWhole, Whole
from tests import tiny
from tests.checks import assert_equal_bits
from tests.toolkit.folders import INT, edit
from toolkit import CheckpointError, Recipe, UsageError, checkpoint, report_of, transform
from toolkit.checkpoint.layers import kind_of
from toolkit.checkpoint.saving import _each_once
from toolkit.pipeline import quantized
from toolkit.recipe import KEEP, LM_HEAD, Rule
from toolkit.report import QUANTIZER


@pytest.mark.parametrize(
    ("name", "symmetric"),
    [*((name, False) for name in tiny.BUILDERS), ("bert", True)],
    ids=[*(f"{name}-asymmetric" for name in tiny.BUILDERS), "bert-symmetric"],
)
def test_loaded_and_float_models_become_the_same_graph(name: str, symmetric: bool, tmp_path: Path) -> None:
    model = tiny.build(name)
    recipe = Recipe(precision="int", symmetric=symmetric, keep=("qa_outputs", "*att*"))
    place = tmp_path / "saved"
    checkpoint.save(quantized(model, recipe), model, recipe, place)
    loaded = checkpoint.load(place)
    assert checkpoint.recipe_of(loaded) == recipe
    batch = tiny.inputs(model, batch=3, sequence=11)
    for target in ("cpu", "customcpu", "aie"):
        direct, again = transform(model, recipe, target), transform(loaded, target=target)
        assert report_of(again) == report_of(direct) and again.code == direct.code
        for field in ("start_logits", "end_logits"):
            assert_equal_bits(getattr(again(**batch), field), getattr(direct(**batch), field), f"{target} {field}")


ONE_SCALE = {"symmetric": Activation(True, 0.03125), "asymmetric": Activation(False, 0.0371, 77)}


@pytest.mark.parametrize("how", list(ONE_SCALE))
def test_calibrated_and_mixed_layers_come_back_to_the_bit(how: str, tmp_path: Path) -> None:
    model = tiny.build("bert")
    rules = (Rule("*.0.*.query", precision="bf16"), Rule("*.1.*", symmetric=False))
    recipe = Recipe(precision="int", symmetric=True, rules=rules)
    graph = quantized(model, recipe)
    name = "bert.encoder.layer.0.output.dense"
    graph.get_submodule(name).activation = ONE_SCALE[how]
    checkpoint.save(graph, model, recipe, tmp_path / "saved")
    loaded, batch = checkpoint.load(tmp_path / "saved"), tiny.inputs(model, batch=2, sequence=7)
    assert loaded.get_submodule(name).activation.symmetric == ONE_SCALE[how].symmetric
    assert_equal_bits(loaded(**batch).start_logits, graph(**batch).start_logits)
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    assert tensors[f"{name}.input_scale"].shape == (1,)
    zero = tensors.get(f"{name}.input_zero_point")
    assert zero is None if how == "symmetric" else (zero.dtype, zero.tolist()) == (torch.int8, [77 - 128])
    groups = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["quantization_config"]["config_groups"]
    (static,) = [group for group in groups.values() if group["targets"] == [name]]
    assert static["input_activations"]["strategy"] == "tensor" and static["input_activations"]["dynamic"] is False


def test_the_report_of_a_loaded_graph_names_the_quantizers_version(tmp_path: Path) -> None:
    model = tiny.build("bert")
    graph = quantized(model, INT)
    graph.meta[QUANTIZER] = "somebody 1.2"
    checkpoint.save(graph, model, INT, tmp_path / "saved")
    assert report_of(transform(checkpoint.load(tmp_path / "saved"))).quantizer == "somebody 1.2"


def test_a_folder_of_the_first_version_takes_the_recipe_of_today(tmp_path: Path) -> None:
    model, then = tiny.build("bert"), replace(INT, keep=(*KEEP, LM_HEAD))
    checkpoint.save(quantized(model, then), model, then, tmp_path / "saved")
    edit(tmp_path / "saved", lambda document: document.update(version=1))
    loaded = checkpoint.load(tmp_path / "saved")
    assert checkpoint.recipe_of(loaded) == INT and report_of(transform(loaded, INT)).swapped == 12


def test_two_views_of_one_memory_are_two_tensors() -> None:
    square = torch.arange(9.0).view(3, 3)
    kept, same = _each_once({"a": square, "b": square.t(), "c": square})
    assert kept.keys() == {"a", "b"} and same == {"c": "a"}


def test_a_range_of_a_whole_tensor_is_no_part_of_a_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="range of the whole tensor.*: give the scheme static"):
        kind_of("a", QuantizeWhole(Whole(True, 1, 255, 1e-6)))


def test_no_float_weight_is_saved_twice_and_a_new_checkpoint_replaces_the_old(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert sorted(before) == ["config.json", "model.safetensors", "opswap.json", "opswap.safetensors"]
    other = Recipe(precision="int", symmetric=False)
    model = tiny.build("bert", seed=5)
    checkpoint.save(quantized(model, other), model, other, saved)
    assert checkpoint.recipe_of(checkpoint.load(saved)) == other
    assert before.keys() == {path.name for path in saved.iterdir()}
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


@pytest.mark.parametrize("recipe", [replace(INT, symmetric=False), Recipe()], ids=["asymmetric", "float"])
def test_a_recipe_that_contradicts_is_refused(saved: Path, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="the checkpoint"):
        transform(checkpoint.load(saved), recipe)


def test_fusions_can_be_left_out_of_a_loaded_graph(saved: Path) -> None:
    graph = transform(checkpoint.load(saved), replace(INT, without=("gelu",)), "customcpu")
    assert report_of(graph).fused.get("gelu", 0) == 0 < report_of(graph).fused["rows"]
