"""The layout of compressed-tensors: what others read of our folders, what we read of theirs, and what can't be."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering

from benchmarks.inputs import random_batch
from models import load
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.folders import INT
from toolkit import CheckpointError, Recipe, checkpoint, report_of, transform
from toolkit.adopt import adopted
from toolkit.in_place import replacing
from toolkit.pipeline import lowered, quantized


def _foreign(saved: Path) -> Path:
    """The folder as another program would have written it: without our graph"""
    for name in ("opswap.json", "opswap.safetensors"):
        (saved / name).unlink()
    return saved


def test_a_folder_that_others_made_becomes_the_same_graph(saved: Path) -> None:
    model = tiny.build("bert")
    found = checkpoint.read(_foreign(saved))
    assert found.state.keys() == model.state_dict().keys()
    model.load_state_dict(found.state)
    batch = tiny.inputs(model, batch=2, sequence=7)
    for target in ("cpu", "customcpu", "aie"):
        again = transform(adopted(model, found.layers), target=target)(**batch).start_logits
        assert_equal_bits(again, transform(tiny.build("bert"), INT, target)(**batch).start_logits, target)


def test_what_a_kill_left_half_written_is_none_of_its_files(saved: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(saved / "rounding.safetensors") as beside:
        left = beside.parent.with_name(f".1-{beside.name}")
        shutil.copytree(beside.parent, left)
        raise KeyboardInterrupt
    assert left in saved.glob("*.safetensors")
    assert checkpoint.read(_foreign(saved)).layers


def test_a_folder_of_static_layers_is_called_static(tmp_path: Path) -> None:
    model, recipe = tiny.build("bert"), Recipe("int", scheme="static", smooth=False)
    graph = quantized(model, recipe, [tiny.inputs(model, batch=3, sequence=17)])
    checkpoint.save(graph, model, recipe, tmp_path / "saved")
    again = transform(adopted(model, checkpoint.read(_foreign(tmp_path / "saved")).layers))
    assert report_of(again).scheme == "static"
    batch = tiny.inputs(model, batch=2, sequence=7)
    assert_equal_bits(again(**batch).start_logits, lowered(graph, recipe, "cpu")(**batch).start_logits)


SCHEMES = {
    "sparse": ({"format": "marlin-24"}, {}, {}, "'marlin-24' can't be read"),
    "4 bits": ({}, {"num_bits": 4}, {}, "are int4"),
    "float8": ({}, {"type": "float"}, {}, "are float8"),
    "groups": ({}, {"strategy": "group", "group_size": 128}, {}, "one scale a group"),
    "asymmetric weights": ({}, {"symmetric": False}, {}, "asymmetric"),
    "dynamic a tensor": ({}, {}, {"strategy": "tensor"}, "dynamic, one scale a tensor"),
    "a cache": ({"kv_cache_scheme": {"num_bits": 8}}, {}, {}, "kv_cache_scheme"),
    "no group": ({"config_groups": {}}, {}, {}, "no group"),
}


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_scheme_that_cannot_be_computed_is_one_line(saved: Path, scheme: str) -> None:
    whole, weights, inputs, said = SCHEMES[scheme]
    config = json.loads((_foreign(saved) / "config.json").read_text("utf-8"))
    quantization = config["quantization_config"]
    quantization["config_groups"]["group_0"]["weights"].update(weights)
    quantization["config_groups"]["group_0"]["input_activations"].update(inputs)
    quantization.update(whole)
    (saved / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match=said) as raised:
        checkpoint.read(saved)
    assert "\n" not in str(raised.value)


def test_another_quantizers_method_is_said(saved: Path) -> None:
    (_foreign(saved) / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    with pytest.raises(CheckpointError, match="'gptq'"):
        checkpoint.kind_of(saved)


def test_transformers_loads_the_folder_with_compressed_tensors(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors, which proves the layout, is not installed")
    model, _ = load()
    checkpoint.save(quantized(model, INT), model, INT, tmp_path / "saved")
    other, notes = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(notes.values()), notes
    assert other.bert.encoder.layer[0].output.dense.weight.dtype == torch.int8
    batch = random_batch(model, 2, 48)
    ours = transform(checkpoint.load(tmp_path / "saved"), target="customcpu")(**batch)
    with torch.inference_mode():
        theirs = other.eval()(**batch)
    # theirs divides a row's largest value by 127.5, ours by 127: two roundings of the same numbers
    assert_sqnr(ours.start_logits, theirs.start_logits, 35)
    assert_sqnr(ours.end_logits, theirs.end_logits, 35)


def test_the_files_are_those_of_compressed_tensors(saved: Path) -> None:
    model, tensors = tiny.build("bert"), load_file(saved / "model.safetensors")
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert tensors.keys() == model.state_dict().keys() | {f"{n}.weight_scale" for n in linears if n != "qa_outputs"}
    for name in linears[:-1]:
        weight, scale = tensors[f"{name}.weight"], tensors[f"{name}.weight_scale"]
        assert (weight.dtype, scale.dtype, scale.shape) == (torch.int8, torch.float32, (weight.shape[0], 1))
    assert tensors["qa_outputs.weight"].dtype == torch.float32
    config = json.loads((saved / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["BertForQuestionAnswering"]
    quantization = config["quantization_config"]
    (group,) = quantization["config_groups"].values()
    assert (quantization["quant_method"], quantization["format"]) == ("compressed-tensors", "int-quantized")
    assert (group["targets"], quantization["ignore"]) == (["Linear"], ["qa_outputs"])
    assert group["weights"] == {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False,
    }  # fmt: skip
    assert group["input_activations"] == {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True,
    }  # fmt: skip


def test_what_transformers_has_no_layer_for_is_said(tmp_path: Path) -> None:
    model = tiny.build("gpt2")  # its Conv1D holds [K, N], and compressed-tensors knows nn.Linear alone
    found = checkpoint.save(quantized(model, INT), model, INT, tmp_path / "saved")
    assert found.portable is not None and "c_attn is no torch.nn.Linear" in found.portable
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
