"""Models that read fewer tokens than windows usually have: as many as they read, and one line where more are asked."""

import json
from pathlib import Path

import pytest

from tests.cli import Cli, Result
from tests.commands.folders import tiny_folder

LONG = " ".join(["The old mill stands on the river."] * 80)
ASK = ("ask", "--context", LONG, "--question", "Where is it?")
COMMANDS = {
    "ask": ASK,
    "eval": ("eval", "--data", "DATA"),
    "validate": ("validate", "--pair", "customcpu:fp", "--data", "DATA"),
    "sensitivity": ("sensitivity", "--data", "DATA", "--each", "0", "--max-drop", "100"),
    "calibration": ("--precision", "int", "--scheme", "static", "--calibration", "DATA", *ASK),
}


def run(cli: Cli, folder: Path, positions: int, *arguments: str) -> Result:
    """A model of so many positions, and DATA a question on a passage that is longer"""
    answers = [{"text": "the river", "answer_start": LONG.index("the river")}]
    asked = {"context": LONG, "qas": [{"id": "q", "question": "Where is it?", "answers": answers}]}
    data = folder / "data.json"
    data.write_text(json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": [asked]}]}))
    model = tiny_folder(folder / "model", "ask", max_position_embeddings=positions)
    return cli("--json", "--model", str(model), *(str(data) if one == "DATA" else one for one in arguments))


@pytest.mark.parametrize("positions", [256, 130])
@pytest.mark.parametrize("name", COMMANDS)
def test_windows_are_as_long_as_the_model_reads(cli: Cli, tmp_path: Path, name: str, positions: int) -> None:
    result = run(cli, tmp_path, positions, *COMMANDS[name])
    assert result.code == 0, result.err


@pytest.mark.parametrize("name", ["ask", "eval", "validate", "sensitivity"])
def test_more_than_the_model_reads_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    result = run(cli, tmp_path, 256, *COMMANDS[name], "--max-length", "257")
    assert (result.code, result.out) == (1, "") and "Traceback" not in result.err
    assert "the model reads at most 256 tokens, 257 wanted: lower --max-length" in result.err
