"""Folders that `quantize` wrote where their integers are not computed with: the weights are read as floats."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.commands.folders import tiny_folder
from tests.commands.test_validate_quantized import SAMPLE, SMOOTHED

READ = "8-bit integers, read as floats"
ASKED = {
    "ask": ("ask", "--question", "who?"),
    "classify": ("classify", "--text", "a boat on a river"),
    "encode": ("encode", "--text", "a boat on a river"),
    "generate": ("generate", "--text", "a boat on", "--new-tokens", "3"),
    "tag": ("tag", "--text", "a boat on a river"),
}
HOWS = {"for transformers too": (), "OpSwap's alone": ("--calibration", SAMPLE, "--samples", "2")}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("task", ASKED)
def test_every_command_loads_them_on_every_target(cli: Cli, task: str, how: str, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", task)), str(tmp_path / "saved")
    made = cli("--json", "--model", model, *HOWS[how], "quantize", "--task", task, "--output", output)
    assert made.code == 0, made.err
    for target, given, precision in (("hpu", (), "fp8"), ("hpu", ("--precision", "bf16"), "bf16"),
                                     ("cpu", ("--precision", "fp"), "fp"),
                                     ("customcpu", ("--precision", "bf16"), "bf16")):  # fmt: skip
        told = cli("--json", "--model", output, "--target", target, *given, *ASKED[task])
        assert told.code == 0, told.err
        assert (told.json["precision"], told.json["weights"]) == (precision, READ)
        assert f"{target} {precision} (weights: {READ}): runs as" in told.err
        if task == "generate":
            assert told.json["cache"] is True
    usual = cli("--json", "--model", output, *ASKED[task])
    assert (usual.json["precision"], usual.json["weights"]) == ("int", None) and READ not in usual.err


def test_eval_and_export(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", "ask")), str(tmp_path / "saved")
    assert cli("--model", model, *SMOOTHED, "quantize", "--output", output).code == 0
    asked = ("eval", "--data", SAMPLE, "--limit", "6")
    told = cli("--json", "--model", output, "--target", "hpu", *asked)
    assert told.code == 0 and (told.json["weights"], told.json["total"]) == (READ, 6), told.err
    file = tmp_path / "float.onnx"
    written = cli("--json", "--model", output, "--precision", "fp", "export", "--output", str(file), "--data", SAMPLE,
                  "--limit", "2")  # fmt: skip
    assert written.code == 0 and (written.json["quantized"], written.json["weights"]) == (0, READ), written.err
    plain = ("--recipe", "none.yaml", "ask", "--question", "who?")
    cli("--model", output, "--target", "hpu", *plain).fails_in_one_line(1, "none.yaml")


def test_bench_and_plan_measure_beside_the_float_graph(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", "ask")), str(tmp_path / "saved")
    assert cli("--model", model, *HOWS["OpSwap's alone"], "quantize", "--output", output).code == 0
    asked = ("bench", "--sequence-length", "16", "--iterations", "2", "--peer", "PyTorch fp32")
    told = cli("--json", "--model", output, "--target", "customcpu", *asked)
    assert told.code == 0 and told.json["ours"][0]["sqnr_db"] > 15, told.err
    assert told.json["peers"][0]["sqnr_db"] > 100 and told.json["multiply_adds"]["attention"] > 0
    planned = cli("--json", "--model", output, "--target", "aie", "--precision", "int", "plan")
    assert planned.code == 0 and planned.json["swapped"] == told.json["swapped"], planned.err


def test_what_is_asked_and_cannot_be_had_there(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", "ask")), str(tmp_path / "saved")
    assert cli("--model", model, "quantize", "--output", output).code == 0
    on = ("--model", output, "--target", "hpu")
    cli(*on, "--precision", "int", *ASKED["ask"]).fails_in_one_line(2, "no precision 'int'", "give --precision fp8")
    cli(*on, "--precision", "fp16", *ASKED["ask"]).fails_in_one_line(2, "no precision 'fp16'")
    cli(*on, "--strict", *ASKED["ask"]).fails_in_one_line(4, "hpu does not run natively")
    wrong = cli(*on, "--calibration", SAMPLE, *ASKED["ask"])
    assert wrong.code == 2 and "--calibration is for --precision int, not fp8" in wrong.err
