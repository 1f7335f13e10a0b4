"""Rounding that was found with data and lies with the model: the same without the data, for these weights alone."""

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from transformers import BertModel

from models import load
from models.finetune.saving import SAVED
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.storing import DATA, INT, NONE, copy_of, integers
from toolkit import Rule, report_of, transform
from toolkit.equalize import stored
from toolkit.equalize.stored import FILE, NOTHING, ORIGIN, fitting, key_of
from toolkit.fake_quantize import FakeQuantizedLinear, fake_quantize
from toolkit.integers import find_rounding
from toolkit.pipeline import captured, quantized
from toolkit.quantize import linears_of

NOT_SMOOTHED = replace(INT, smooth=False)


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
