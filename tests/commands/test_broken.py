"""Models whose weights hold NaN, and environment variables that name nothing: one line, no traceback."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.cli import Cli
from tests.commands.folders import tiny_folder

COMMANDS = {
    "ask": ("ask", "--question", "who?"),
    "encode": ("encode", "--text", "some words"),
    "classify": ("classify", "--text", "some words"),
    "tag": ("tag", "--text", "some words"),
    "generate": ("generate", "--text", "some words"),
}


def broken(folder: Path, task: str) -> str:
    """→ a model with a NaN in one of its linears' weights"""
    file = tiny_folder(folder, task) / "model.safetensors"
    weights = load_file(file)
    name = next(name for name, weight in weights.items() if weight.dim() == 2 and ("output" in name or "mlp" in name))
    weights[name][0, 0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("task", COMMANDS)
def test_outputs_that_are_no_numbers_are_no_result(cli: Cli, tmp_path: Path, task: str) -> None:
    result = cli("--json", "--model", broken(tmp_path, task), *COMMANDS[task])
    assert (result.code, result.out) == (1, "")
    assert "outputs are not numbers (NaN)" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("task", COMMANDS)
def test_weights_that_have_no_8_bits(cli: Cli, tmp_path: Path, task: str) -> None:
    result = cli("--model", broken(tmp_path, task), "--precision", "int", *COMMANDS[task])
    result.fails_in_one_line(1, "cannot be quantized", "weights must be finite", "check the checkpoint")


def test_activations_that_have_no_range(cli: Cli, tmp_path: Path) -> None:
    """Of a broken embedding, which is not quantized itself."""
    file = tiny_folder(tmp_path, "ask") / "model.safetensors"
    weights = load_file(file)
    weights["bert.embeddings.word_embeddings.weight"][:] = float("nan")
    save_file(weights, file, {"format": "pt"})
    (tmp_path / "lines.txt").write_text("some words\n")
    given = ("--precision", "int", "--scheme", "static", "--calibration", str(tmp_path / "lines.txt"))
    result = cli("--model", str(tmp_path), *given, *COMMANDS["ask"])
    result.fails_in_one_line(1, "must be finite; got NaN or infinity")


def test_validate_names_the_side(cli: Cli, tmp_path: Path) -> None:
    result = cli("--model", broken(tmp_path, "classify"), "validate", "--task", "classify", "--pair", "customcpu:fp")
    assert (result.code, result.out) == (1, "") and "opswap: cpu:fp: the model's outputs are not numbers" in result.err


def test_a_second_text_that_is_empty(cli: Cli, tmp_path: Path) -> None:
    asked = ("classify", "--text", "some words", "--second", " ")
    result = cli("--model", str(tiny_folder(tmp_path, "classify")), *asked)
    assert result.code == 1 and "a text is empty" in result.err


def test_a_variable_that_names_no_chip(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWAP_GAUDI", "gaudi9")
    asked = ("--target", "hpu", "--precision", "fp8", *COMMANDS["ask"])
    cli(*asked).fails_in_one_line(2, "OPSWAP_GAUDI must be one of gaudi2, gaudi3; got 'gaudi9'")
