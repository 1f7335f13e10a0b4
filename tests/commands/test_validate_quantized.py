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


def test_without_float_weights_the_reference_is_int(cli: Cli, folders: tuple[str, str], tmp_path: Path) -> None:
    _, output = folders
    page = tmp_path / "page.html"
    told = cli("--json", "--model", output, "validate", "--pair", "customcpu:int", "--pair", "onnx:int", "--limit", "2",
               "--output", str(page))  # fmt: skip
    assert told.code == 0, told.err
    assert [side["name"] for side in told.json["sides"]] == ["cpu:int", "customcpu:int", "onnx:int"]
    assert all(pair["sqnr_db"] is None or pair["sqnr_db"] > 30 for pair in told.json["pairs"])
    reference = told.json["reference"]
    assert reference["name"] == "cpu:int" and f"{output} holds no float weights" in reference["reason"]
    assert reference["reason"] in page.read_text("utf-8")
    shown = cli("--model", output, "--target", "customcpu", "validate", "--limit", "1")
    assert shown.code == 0 and reference["reason"] in shown.out and "customcpu:int" in shown.out


def test_a_language_model_is_taken_as_a_graph_of_whole_texts(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_folder(tmp_path / "model", "generate")), str(tmp_path / "saved")
    assert cli("--model", model, "quantize", "--task", "generate", "--output", output).code == 0
    asked = ("validate", "--task", "generate", "--max-length", "200", *ANY)
    told = cli("--json", "--model", output, *asked, "--pair", "customcpu:int")
    assert told.code == 0 and told.json["pairs"][0]["reference"] == "cpu:int", told.err
    cli("--model", output, "validate", "--pair", "customcpu:int").fails_in_one_line(1, "is quantized for `generate`")


def test_a_file_of_the_float_model_is_a_reference(cli: Cli, folders: tuple[str, str], tmp_path: Path) -> None:
    model, output = folders
    file, own = str(tmp_path / "float.safetensors"), str(tmp_path / "own.safetensors")
    assert cli("--model", model, "validate", "--pair", "cpu:fp", "--limit", "2", "--save", file).code == 0
    asked = ("validate", "--pair", "customcpu:int", "--limit", "2", *ANY)
    told = cli("--json", "--model", output, *asked, "--reference", file, "--save", own)
    assert told.code == 0, told.err
    assert told.json["reference"] == {"name": "cpu:fp (float.safetensors)", "reason": None}
    assert told.json["pairs"][0]["sqnr_db"] > 10
    again = cli("--json", "--model", output, *asked, "--reference", own)
    assert again.code == 0 and again.json["pairs"][0]["max_abs"] == 0, again.err


@pytest.mark.parametrize("sides", [("--reference", "cpu:fp", "--pair", "cpu:int"), ("--pair", "customcpu:bf16"),
                                   ("--pair", "onnx:fp")], ids=" ".join)  # fmt: skip
def test_a_side_that_needs_float_weights_is_refused(cli: Cli, folders: tuple[str, str], sides: tuple[str, ...]) -> None:
    refused = cli("--model", folders[1], "validate", *sides)
    refused.fails_in_one_line(1, "is quantized", sides[1], "float weights", "give the model that it came from")


def test_a_folder_with_weights_for_transformers_is_compared_with_what_they_stand_for(cli: Cli, tmp_path: Path) -> None:
    model, output = str(tiny_bert_folder(tmp_path / "model")), str(tmp_path / "saved")
    assert cli("--model", model, "quantize", "--output", output).code == 0
    told = cli("--json", "--model", output, "validate", "--pair", "customcpu", "--pair", "onnx:fp", "--limit", "2",
               *ANY)  # fmt: skip
    assert told.code == 0, told.err
    assert [side["name"] for side in told.json["sides"]] == ["cpu:fp", "customcpu:int", "onnx:fp"]
    assert told.json["reference"] == {"name": "cpu:fp", "reason": None}
    assert told.json["pairs"][1]["sqnr_db"] > 80
