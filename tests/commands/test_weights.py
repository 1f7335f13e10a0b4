"""A checkpoint with a weight that no 8 bits can stand for."""

from pathlib import Path

import pytest

from targets import _pages
from tests.cli import Cli
from tests.models.samples import SQUAD, tiny_bert, tiny_folder


@pytest.mark.parametrize(("target", "precision"), [("customcpu", "int"), ("hpu", "fp8")])
def test_a_weight_that_is_not_finite_is_named(cli: Cli, tmp_path: Path, target: str, precision: str) -> None:
    folder, model = tiny_folder(tmp_path), tiny_bert()
    model.bert.encoder.layer[0].output.dense.weight.data[3, 4] = float("nan")
    model.save_pretrained(folder)
    result = cli("--model", str(folder), "--target", target, "--precision", precision, "ask", "--question", "Who?")
    said = "linear bert.encoder.layer.0.output.dense cannot be quantized", "must be finite; got NaN or infinity"
    result.fails_in_one_line(1, *said)


@pytest.mark.parametrize("command", ["ask", "quantize", "calibrate", "sensitivity"])
def test_weights_leave_memory_in_commands(cli: Cli, tmp_path: Path, command: str) -> None:
    """Where nobody writes to them; a library doesn't know."""
    folder, sample = tiny_folder(tmp_path), str(SQUAD / "sample-v1.1.json.gz")
    given = {"ask": ("--question", "Who?"), "quantize": ("--output", str(tmp_path / "made")), "calibrate": (),
             "sensitivity": ("--data", sample, "--limit", "2")}  # fmt: skip
    data = ("--calibration", sample, "--samples", "2") if command == "calibrate" else ()
    assert not _pages._alone
    assert cli("--model", str(folder), "--precision", "int", *data, command, *given[command]).code == 0
    assert _pages._alone
