"""Devices of one's own, from files, and what is wrong with them in one line."""

import json
from pathlib import Path

import pytest

from targets.aie import devices, settings
from targets.aie.devices import XDNA, XDNA2
from targets.base import UsageError


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def test_peaks_are_the_data_sheets():
    assert XDNA.peak() == 4 * 4 * 256 * 1e9 and XDNA.peak("bf16") == XDNA.peak() / 2
    assert XDNA2.peak() == 4 * 8 * 512 * 1.8e9


def test_a_file_changes_what_it_names(tmp_path):
    found = devices.load(written(tmp_path, "base: xdna\nclock: 1.3e+9\ntitle: Hawk Point, overclocked\n"))
    assert (found.name, found.title, found.clock) == ("mine", "Hawk Point, overclocked", 1.3e9)
    assert (found.columns, found.read, found.types) == (XDNA.columns, XDNA.read, XDNA.types)


@pytest.mark.parametrize("device", [XDNA, XDNA2], ids=["xdna", "xdna2"])
def test_what_a_device_writes_is_read_back(device, tmp_path):
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(devices.as_json(device)), "utf-8")
    assert devices.load(str(path)) == device


@pytest.mark.parametrize(
    "text, line",
    [
        ("[1, 2", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("clock: 2001-99-99", "is no YAML: month must be in 1..12"),
        ("clock: " + "9" * 5000, "is no YAML: Exceeds the limit"),
        ("clock: " + "9" * 400, "clock must be a number above 0; got 9"),
        ("columns: -0x" + "f" * 5000, "is no YAML: Exceeds the limit"),
        ("base: [xdna]", "base must be one of: xdna, xdna2; got "),
        ("- 1", "must hold keys and values of a device; got list"),
        ("base: npu9", "base must be one of: xdna, xdna2; got 'npu9'"),
        ("colums: 8", "unknown key 'colums'; known are: base, name"),
        ("columns: 0", "columns must be a whole number above 0; got 0"),
        ("columns: many", "columns must be a whole number above 0; got 'many'"),
        ("clock: fast", "clock must be a number above 0; got 'fast'"),
        ("clock: .inf", "clock must be a number above 0; got inf"),
        ("clock: .nan", "clock must be a number above 0; got nan"),
        ("dispatch: .inf", "dispatch must be a number from 0; got inf"),
        (f"host_macs: {10**400}", "host_macs must be a number above 0; got 1000"),
        ("read: 0", "read must be a number above 0; got 0"),
        ("dispatch: -1", "dispatch must be a number from 0; got -1"),
        ("title: 5", "title must be text; got 5"),
        ("types: {bf16: {native: [4, 8, 4], macs: 128}}", "types must be like"),
        ("types: {int8: {native: [4, 8], macs: 256}}", "types.int8 must be like"),
        ("types: {int8: {native: [4, 8, 8.5], macs: 256}}", "types.int8 must be like"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, text, line):
    with pytest.raises(UsageError) as error:
        devices.load(written(tmp_path, text))
    assert line in str(error.value) and "mine.yaml" in str(error.value)


def test_an_unknown_device_names_those_there_are():
    with pytest.raises(UsageError, match="unknown device 'npu'; choose one of: xdna, xdna2; or give a YAML"):
        devices.load("npu")


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    assert settings.read() == settings.Settings(XDNA2) and settings.read().plain
    monkeypatch.setenv(settings.DEVICE, "xdna")
    assert settings.read().device == XDNA and settings.read().plain
    monkeypatch.setenv(settings.OUTPUT, "int16")
    monkeypatch.setenv(settings.FORM, "walk")
    assert str(settings.read()) == "XDNA (Phoenix, Hawk Point), int16 out, tile by tile"
    assert not settings.read().plain


@pytest.mark.parametrize("variable", [settings.DEVICE, settings.OUTPUT, settings.FORM])
def test_settings_that_do_not_exist(monkeypatch, variable):
    monkeypatch.setenv(variable, "neither")
    with pytest.raises(UsageError, match="'neither'"):
        settings.read()
