"""Rounding of other weights, found in another way, or in a file that can't be read: said, and not used."""

import logging
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models import load
from models.finetune.saving import SAVED
from tests.checks import assert_equal_bits
from tests.toolkit.storing import INT, NONE, copy_of, leave
from toolkit import report_of, transform
from toolkit.equalize.stored import FILE
from toolkit.fake_quantize import fake_quantize


def test_other_weights_are_said_and_rounded_without_it(calibrated, tmp_path, caplog):
    folder, _ = calibrated
    other = copy_of(folder, tmp_path / "other")
    state = load_file(other / "model.safetensors")
    save_file({name: value * 1.01 for name, value in state.items()}, other / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.WARNING):
        report = report_of(transform(load(str(other))[0], INT))
    assert report.equalized["compensate"] == NONE and report.calibration is None
    assert f"{FILE} is of other weights" in caplog.text


def test_what_was_found_is_for_rotated_weights_or_for_others(calibrated, tmp_path, caplog):
    """Two linears have inputs that no block divides: those fit both."""
    folder, data = calibrated
    place, recipe = copy_of(folder, tmp_path / "rotated"), replace(INT, rotate=True)
    assert report_of(transform(load(str(place))[0], recipe)).equalized["compensate"] == 2
    leave(place, load(str(place))[0], data, recipe)
    with caplog.at_level(logging.WARNING):
        assert report_of(transform(load(str(place))[0], recipe)).equalized["compensate"] > 2 and not caplog.text
    assert report_of(transform(load(str(place))[0], INT)).equalized["compensate"] == 2


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
