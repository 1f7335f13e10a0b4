"""Models whose weights hold NaN, and environment variables that name nothing: one line, no traceback."""

import json
from html import escape
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.cli import Cli
from tests.commands.folders import tiny_folder

WHY = "the model's outputs are not numbers (NaN)"
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


@pytest.mark.parametrize("task", COMMANDS)
def test_validate_goes_on_after_a_side_without_numbers(cli: Cli, tmp_path: Path, task: str) -> None:
    """Weights that float32 holds and fp16 does not."""
    file = tiny_folder(tmp_path / "model", task) / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "word_embeddings" in name or "wte" in name)
    weights[name] *= 1e7
    save_file(weights, file, {"format": "pt"})
    kept, page = tmp_path / "kept.safetensors", tmp_path / "page.html"
    asked = ("validate", "--task", task, "--pair", "cpu:fp16", "--pair", "customcpu:fp", "--max-length", "200",
             "--min-sqnr", "-100", "--min-cosine", "-1", "--min-equal", "0", "--output", str(page))  # fmt: skip
    result = cli("--json", "--model", str(file.parent), *asked, "--save", str(kept))
    assert result.code == 3 and "Traceback" not in result.err
    found = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    none, other = found["pairs"]
    assert [pair["target"] for pair in (none, other)] == ["cpu:fp16", "customcpu:fp"]
    assert other["passed"] and not none["passed"] and not found["passed"]
    assert none["sqnr_db"] is none["cosine"] is none["max_abs"] is None and not none["changed"]
    assert none["answers_equal"] == (None if task == "encode" else 0)
    assert len(none["failed"]) == 1 and none["failed"][0].startswith(f"sqnr_db NaN: {WHY}")
    assert escape(WHY) in page.read_text("utf-8")
    assert found["sides"][1]["latency_ms"] is None and found["sides"][2]["latency_ms"]["median"] > 0
    assert "1 of 2 too far from cpu:fp: cpu:fp16: sqnr_db NaN" in result.err
    assert not kept.exists() and "cpu:fp16 is not saved: it gave no numbers" in result.err
    shown = cli("--model", str(file.parent), *asked)
    assert shown.code == 3 and shown.out.count("FAIL") == shown.out.count("PASS") == 1 and WHY in shown.out


def test_a_second_text_that_is_empty(cli: Cli, tmp_path: Path) -> None:
    asked = ("classify", "--text", "some words", "--second", " ")
    result = cli("--model", str(tiny_folder(tmp_path, "classify")), *asked)
    assert result.code == 1 and "a text is empty" in result.err


def test_a_variable_that_names_no_chip(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWAP_GAUDI", "gaudi9")
    asked = ("--target", "hpu", "--precision", "fp8", *COMMANDS["ask"])
    cli(*asked).fails_in_one_line(2, "OPSWAP_GAUDI must be one of gaudi2, gaudi3; got 'gaudi9'")
