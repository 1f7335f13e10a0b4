"""`validate` of folders that `quantize` wrote, those without float weights among them."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.commands.folders import tiny_folder
from tests.models.samples import tiny_folder as tiny_bert_folder

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
SMOOTHED = ("--precision", "int", "--scheme", "static", "--calibration", SAMPLE, "--samples", "2")
ANY = ("--min-sqnr", "0", "--min-equal", "0", "--min-cosine", "-1")


@pytest.fixture
def folders(cli: Cli, tmp_path: Path) -> tuple[str, str]:
    """A tiny float model, and what `quantize` makes of it with its norms smoothed: OpSwap's alone"""
    model, output = str(tiny_bert_folder(tmp_path / "model")), str(tmp_path / "saved")
    made = cli("--json", "--model", model, *SMOOTHED, "quantize", "--output", output)
    assert made.code == 0 and "smooth" in made.json["only_opswap"], made.err
    return model, output


def test_the_reference_is_the_float_graph_that_the_weights_stand_for(
    cli: Cli, folders: tuple[str, str], tmp_path: Path
) -> None:
    _, output = folders
    page = tmp_path / "page.html"
    told = cli("--json", "--model", output, "validate", "--pair", "customcpu:int", "--pair", "onnx:int", "--limit", "2",
               "--output", str(page))  # fmt: skip
    assert told.code == 0, told.err
    assert [side["name"] for side in told.json["sides"]] == ["cpu:fp", "customcpu:int", "onnx:int"]
    assert [side["weights"] for side in told.json["sides"]] == ["8-bit integers, read as floats", None, None]
    assert all(pair["sqnr_db"] > 15 for pair in told.json["pairs"])
    reference = told.json["reference"]
    assert reference["name"] == "cpu:fp" and f"computes with the 8-bit weights of {output}, read" in reference["reason"]
    assert reference["reason"] in page.read_text("utf-8")
    shown = cli("--model", output, "--target", "customcpu", "validate", "--limit", "1")
    assert shown.code == 0 and reference["reason"] in shown.out and "customcpu:int" in shown.out


def test_a_language_model_is_taken_as_a_graph_of_whole_texts(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", "generate")), str(tmp_path / "saved")
    assert cli("--model", model, "quantize", "--task", "generate", "--output", output).code == 0
    asked = ("validate", "--task", "generate", "--max-length", "200", *ANY)
    told = cli("--json", "--model", output, *asked, "--pair", "customcpu:int")
    assert told.code == 0 and told.json["pairs"][0]["reference"] == "cpu:fp", told.err
    cli("--model", output, "validate", "--pair", "customcpu:int").fails_in_one_line(1, "is quantized for `generate`")


def test_a_file_of_the_float_model_is_a_reference(cli: Cli, folders: tuple[str, str], tmp_path: Path) -> None:
    model, output = folders
    file, own = str(tmp_path / "float.safetensors"), str(tmp_path / "own.safetensors")
    assert cli("--model", model, "validate", "--pair", "cpu:fp", "--limit", "2", "--save", file).code == 0
    asked = ("validate", "--pair", "customcpu:int", "--limit", "2", *ANY)
    told = cli("--json", "--model", output, *asked, "--reference", file, "--save", own)
    assert told.code == 0, told.err
    why = f"cpu:fp (float.safetensors) is of the model {model}, all else of {output}"
    assert told.json["reference"] == {"name": "cpu:fp (float.safetensors)", "model": model, "reason": why}
    assert told.json["pairs"][0]["sqnr_db"] > 10
    again = cli("--json", "--model", output, *asked, "--reference", own)
    assert again.code == 0 and again.json["pairs"][0]["max_abs"] == 0, again.err


def test_sides_of_every_precision(cli: Cli, folders: tuple[str, str]) -> None:
    sides = {"customcpu:fp": 80, "customcpu:bf16": 35, "onnx:fp": 80, "cpu:fp16": 45, "hpu:fp8": 18, "aie:int": 15}
    told = cli("--json", "--model", folders[1], "validate", "--targets", ",".join(sides), "--limit", "2", *ANY)
    assert told.code == 0, told.err
    assert {pair["target"]: pair["sqnr_db"] > sides[pair["target"]] for pair in told.json["pairs"]} == dict.fromkeys(
        sides, True
    )


def test_a_folder_with_weights_for_transformers_is_compared_with_what_they_stand_for(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_bert_folder(tmp_path / "model")), str(tmp_path / "saved")
    assert cli("--model", model, "quantize", "--output", output).code == 0
    told = cli("--json", "--model", output, "validate", "--pair", "customcpu", "--pair", "onnx:fp", "--limit", "2",
               *ANY)  # fmt: skip
    assert told.code == 0, told.err
    assert [side["name"] for side in told.json["sides"]] == ["cpu:fp", "customcpu:int", "onnx:fp"]
    assert "read as floats" in told.json["reference"]["reason"]
    assert told.json["pairs"][1]["sqnr_db"] > 80
