"""Rounding that was found with data and lies with the model: the same without the data, for these weights alone."""

import hashlib
import logging
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BertModel

from models import load
from models.calibration import CalibrationData, read_calibration
from models.finetune.saving import SAVED
from tests.checks import assert_equal_bits, assert_sqnr
from tests.commands.folders import tiny_folder
from tests.models.samples import SQUAD
from toolkit import Recipe, Rule, report_of, transform
from toolkit.equalize import stored
from toolkit.equalize.stored import FILE, NOTHING, ORIGIN, fitting, key_of, write
from toolkit.fake_quantize import FakeQuantizedLinear, fake_quantize
from toolkit.integers import find_rounding
from toolkit.pipeline import captured, quantized
from toolkit.quantize import QuantizedLinear, linears_of

INT = Recipe(precision="int")
NOT_SMOOTHED = replace(INT, smooth=False)
NONE = "no calibration data"
DATA = {"file": "sample-v1.1.json.gz", "samples": 12}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """→ a folder with a model and its rounding, and the data"""
    folder = tiny_folder(tmp_path_factory.mktemp("model"), "ask")
    model, tokenizer = load(str(folder))
    data = read_calibration(SQUAD / "sample-v1.1.json.gz", tokenizer, 12)
    leave(folder, model, data)
    return folder, data


def leave(folder, model, data: CalibrationData, recipe=INT):
    return write(folder, find_rounding(captured(model, "int"), recipe, data, DATA))


def copy_of(folder, place):
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def integers(graph):
    return {name: module for name, module in graph.named_modules() if isinstance(module, QuantizedLinear)}


def assert_same(found, expected):
    assert found.keys() == expected.keys() and found
    for name, linear in expected.items():
        for part in ("weight", "scale", "bias", "weight_sum"):
            assert_equal_bits(getattr(found[name], part), getattr(linear, part), f"{name}.{part}")


def test_without_data_it_is_as_with_them(calibrated):
    folder, data = calibrated
    model, _ = load(str(folder))
    assert_same(integers(quantized(model, INT)), integers(quantized(model, NOT_SMOOTHED, data)))
    report = report_of(transform(model, INT, "customcpu"))
    assert report.equalized == {"smooth": NONE, "compensate": 12, "correct_bias": 12}
    assert report.calibration == {**DATA, "stored": FILE}


def test_it_is_not_plain_rounding(calibrated, tmp_path):
    folder, _ = calibrated
    plain = copy_of(folder, tmp_path / "plain")
    (plain / FILE).unlink()
    (first, second) = (integers(quantized(load(str(place))[0], INT)) for place in (folder, plain))
    assert all(not torch.equal(first[name].weight, linear.weight) for name, linear in second.items())
    assert all(not torch.equal(first[name].bias, linear.bias) for name, linear in second.items())


def test_data_that_are_given_win(calibrated):
    folder, data = calibrated
    model, _ = load(str(folder))
    report = report_of(transform(model, INT, data=data))
    assert report.equalized["smooth"] and report.equalized["smooth"] != NONE and report.calibration is None


def test_the_model_in_another_class_has_it_too(calibrated):
    """Its linears have other names there."""
    folder, _ = calibrated
    assert report_of(transform(BertModel.from_pretrained(folder), INT)).equalized["compensate"] == 12


@pytest.mark.parametrize(
    ("change", "weights", "biases"),
    [
        ({"activation_bits": 16}, True, False),
        ({"symmetric": True}, True, False),
        ({"weight_bits": 16}, False, False),
        ({"compensate": False}, False, False),
        ({"correct_bias": False}, True, False),
        ({"clip": True}, False, False),
        ({"rules": (Rule("*.intermediate.dense", scheme="weight"),)}, True, True),
    ],
    ids=lambda change: "-".join(change) if isinstance(change, dict) else "",
)
def test_only_what_was_found_for_this_way_of_rounding_is_used(calibrated, change, weights, biases):
    folder, _ = calibrated
    model, _ = load(str(folder))
    whole, changed = (integers(quantized(model, recipe)) for recipe in (INT, replace(INT, **change)))
    name = "bert.encoder.layer.1.output.dense"
    assert torch.equal(whole[name].weight, changed[name].weight) is weights
    assert torch.equal(whole[name].bias, changed[name].bias) is biases


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        ({}, 12 * 3),
        ({"compensate": False}, 0),
        ({"weight_bits": 16}, 0),
        ({"clip": True}, 0),
        ({"rules": (Rule("*.intermediate.dense", weight_bits=16), Rule("*.attention.*", precision="fp"))}, 2 * 3),
    ],
    ids=str,
)
def test_only_what_is_used_is_read(calibrated, monkeypatch, change, tensors):
    read = []

    class Spy:
        def __init__(self, *args):
            self.file = safe_open(*args)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *args):
            return self.file.__exit__(*args)

        def metadata(self):
            return self.file.metadata()

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    model, _ = load(str(calibrated[0]))
    monkeypatch.setattr(stored, "safe_open", Spy)
    quantized(model, replace(INT, **change))
    assert len(read) == len(set(read)) == tensors


def test_calibrate_reads_each_weight_for_one_checksum(calibrated, monkeypatch):
    folder, data = calibrated
    made = []
    monkeypatch.setattr(stored, "sha256", lambda *args: made.append(hashlib.sha256(*args)) or made[-1])
    model, _ = load(str(folder))
    assert len(find_rounding(captured(model, "int"), INT, data, DATA).names) == len(made) == 12


def test_other_weights_are_said_and_rounded_without_it(calibrated, tmp_path, caplog):
    folder, _ = calibrated
    other = copy_of(folder, tmp_path / "other")
    state = load_file(other / "model.safetensors")
    save_file({name: value * 1.01 for name, value in state.items()}, other / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.WARNING):
        report = report_of(transform(load(str(other))[0], INT))
    assert report.equalized["compensate"] == NONE and report.calibration is None
    assert f"{FILE} is of other weights" in caplog.text


def test_another_search_of_scales_is_said(calibrated, caplog):
    folder, _ = calibrated
    with caplog.at_level(logging.WARNING):
        report = report_of(transform(load(str(folder))[0], replace(INT, clip=True)))
    assert report.equalized["compensate"] == NONE and report.calibration is None
    assert "was found with clip False, the recipe has True: not used" in caplog.text


def test_a_report_names_the_file_only_where_it_is_used(calibrated, caplog):
    folder, _ = calibrated
    with caplog.at_level(logging.WARNING):
        report = report_of(transform(load(str(folder))[0], replace(INT, weight_bits=16)))
    assert report.equalized["compensate"] == NONE and report.calibration is None and not caplog.text


@pytest.mark.parametrize("harm", ["cut off", "another format", "empty", "not finite", "levels"])
def test_a_file_that_cannot_be_read_is_said(calibrated, tmp_path, caplog, harm):
    folder, _ = calibrated
    place = copy_of(folder, tmp_path / "place") / FILE
    with safe_open(place, "pt") as file:
        about = file.metadata()
    if harm == "another format":
        save_file(load_file(place), place, {"format": "another"})
    elif harm in ("not finite", "levels"):
        part, value = (".shift", torch.nan) if harm == "not finite" else (".weight", -128)
        tensors = load_file(place)
        next(tensor for name, tensor in tensors.items() if name.endswith(part)).view(-1)[3] = value
        save_file(tensors, place, about)
    else:
        place.write_bytes(place.read_bytes()[:1000] if harm == "cut off" else b"")
    with caplog.at_level(logging.WARNING):
        report = report_of(transform(load(str(place.parent))[0], INT))
    assert report.equalized["compensate"] == NONE
    assert "can't be read" in caplog.text and "run `calibrate` again" in caplog.text


def test_of_linears_with_the_same_weights_nothing_is_kept(calibrated, tmp_path):
    """They may read different inputs, and a checksum does not tell which is which."""
    folder, data = calibrated
    model, _ = load(str(folder))
    layers = model.bert.encoder.layer
    layers[1].load_state_dict(layers[0].state_dict())
    model.save_pretrained(tmp_path)
    assert not load_file(leave(tmp_path, model, data))


def test_a_model_without_a_folder_has_none():
    from tests import tiny

    graph = captured(tiny.build("bert"), "int")
    assert fitting(graph.meta.get(ORIGIN), linears_of(graph), INT) is NOTHING
    assert len({key_of(linear) for linear in linears_of(graph).values()}) == 13


def test_training_starts_with_the_stored_integers(calibrated):
    folder, data = calibrated
    model, _ = load(str(folder))
    graph = fake_quantize(model, INT, SAVED, str(folder))
    expected = integers(quantized(load(str(folder))[0], INT))
    assert report_of(transform(load(str(folder))[0], INT, "cpu")).calibration["stored"] == FILE
    for name, linear in expected.items():
        trained = graph.get_submodule(name)
        assert isinstance(trained, FakeQuantizedLinear)
        weight, scale = trained.integers()
        different = (weight != linear.weight).sum(1)  # at most the largest of a row, which gives its scale
        assert int(different.max()) <= 1 and float(different.float().mean()) < 0.2
        assert_sqnr(scale, linear.scale, 60)  # float16
        assert_equal_bits(trained.bias, linear.bias)


def test_training_of_other_weights_starts_without(calibrated, caplog):
    model, _ = load(str(calibrated[0]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    before = [parameter.clone() for parameter in model.parameters()]
    with caplog.at_level(logging.WARNING):
        fake_quantize(model, INT, SAVED, str(calibrated[0]))
    assert "is of other weights" in caplog.text
    for parameter, was in zip(model.parameters(), before, strict=True):
        assert_equal_bits(parameter, was)
