"""A disk with no room for what a command writes: one line that names the file, no traceback, nothing half written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models import InputError, load
from models.finetune import save_model
from tests.cli import Cli
from tests.commands.folders import tiny_folder
from tests.models.samples import SQUAD

SAMPLE = str(SQUAD / "sample-v1.1.json.gz")
STATIC = ("--precision", "int", "--scheme", "static")
ASK = ("ask", "--question", "Who?", "--context", "Ann.")
FEW = ("--limit", "3", "--epochs", "1", "--max-length", "100", "--stride", "16", "--no-bf16")
ROOM = 1000  # bytes a file

# OUT stands for the place that is written to
WRITING = {
    "a calibration that goes on": ("ask", (*STATIC, "--calibration", SAMPLE, "--samples", "9", *ASK), "calibration-"),
    "calibrate": ("ask", ("--calibration", SAMPLE, "--samples", "9", "calibrate"), "can't be written"),
    "quantize": ("ask", ("quantize", "--output", "OUT"), "OUT can't be written (File too large): give another folder"),
    "encode": ("encode", ("encode", "--text", "some words " * 9, "--output", "OUT"), "OUT can't be written (File too"),
    "validate": ("ask", ("validate", "--save", "OUT", "--pair", "cpu:fp"), "OUT can't be written (File too large)"),
    "finetune": (
        "base",
        ("finetune", "--base", "MODEL", "--train", SAMPLE, "--output", "OUT", *FEW),
        "training-state.",
    ),
}


@contextmanager
def little_room() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", WRITING)
def test_no_room_is_one_line(cli: Cli, tmp_path: Path, calibrations: Path, what: str) -> None:
    task, given, said = WRITING[what]
    model = tiny_folder(tmp_path / "model", "ask" if task == "base" else task)
    out = tmp_path / "out"
    out.mkdir()
    places = {"OUT": str(out / "made"), "MODEL": str(model)}
    arguments = [places.get(argument, argument) for argument in given]
    with little_room():
        result = cli(*(() if task == "base" else ("--model", str(model))), *arguments)
    assert (result.code, result.out) == (1, ""), result
    assert "Traceback" not in result.err
    line = result.err.splitlines()[-1]
    assert line.startswith("opswap: ") and said.replace("OUT", places["OUT"]) in line
    assert not [*out.rglob("*.safetensors"), *calibrations.iterdir()]


def test_a_cache_that_is_no_folder_is_one_line(cli: Cli, tmp_path: Path, calibrations: Path) -> None:
    model = tiny_folder(tmp_path / "model", "ask")
    calibrations.rmdir()
    calibrations.touch()
    result = cli("--model", str(model), *STATIC, "--calibration", SAMPLE, "--samples", "9", *ASK)
    assert (result.code, result.out) == (1, ""), result
    assert str(calibrations) in result.err and "Traceback" not in result.err


def test_a_trained_model_without_room_leaves_the_earlier_one(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "ask")
    before = (folder / "model.safetensors").read_bytes()
    with little_room(), pytest.raises(InputError, match="can't be written .*File too large.*: make room"):
        save_model(*load(str(folder)), folder)
    assert (folder / "model.safetensors").read_bytes() == before and not list(folder.glob(".*"))
