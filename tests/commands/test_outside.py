"""Files, arguments and typed text that are no UTF-8 or no JSON: one line, no traceback."""

import json
from pathlib import Path

import pytest

from commands.ask import read_passage
from models import InputError
from tests.cli import Cli
from tests.commands.test_eval import SAMPLE

DEEP = "[" * 200_000
LATIN = "caf\udce9"  # what Python makes of the bytes of "café" in Latin-1


@pytest.mark.parametrize("option", ["--data", "--baseline", "--calibration", "--reference"])
def test_json_nested_too_deeply(cli: Cli, tmp_path: Path, option: str) -> None:
    file = tmp_path / "deep.json"
    file.write_text(DEEP)
    asked = {
        "--data": ("eval", "--data", str(file)),
        "--baseline": ("eval", "--data", SAMPLE, "--baseline", str(file)),
        "--calibration": ("--precision", "int", "--calibration", str(file), "eval", "--data", SAMPLE),
        "--reference": ("sensitivity", "--data", SAMPLE, "--reference", str(file)),
    }
    cli(*asked[option]).fails_in_one_line(1, str(file))


def test_half_a_surrogate_pair_in_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "half.json"
    row = {"id": "7", "context": "a \ud800 b", "question": "what?", "answers": []}
    file.write_text(json.dumps(row))
    for asked in (
        ("eval", "--data", str(file)),
        ("--precision", "int", "--calibration", str(file), "ask", "--question", "who?"),
    ):
        cli(*asked).fails_in_one_line(1, str(file), "the context of question '7'")


@pytest.mark.parametrize(
    "asked",
    [
        ("ask", "--context", LATIN, "--question", "where?"),
        ("ask", "--question", LATIN),
        ("encode", "--text", LATIN),
        ("classify", "--text", "a", "--second", LATIN),
        ("generate", "--text", LATIN),
        ("tag", "--file", LATIN),
        ("--model", LATIN, "ask"),
    ],
    ids=" ".join,
)
def test_an_argument_that_is_not_utf8(cli: Cli, asked: tuple[str, ...]) -> None:
    cli(*asked).fails_in_one_line(2, r"'caf\udce9'", "not UTF-8", "the byte 0xe9")


@pytest.mark.parametrize("asked", [("ask",), ("encode",)], ids=" ".join)
def test_standard_input_that_is_not_utf8(cli: Cli, asked: tuple[str, ...]) -> None:
    cli(*asked, stdin="café\n".encode("latin-1")).fails_in_one_line(1, "standard input is not UTF-8 (byte 3)")


def test_plain_text_that_is_not_utf8(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("café\n".encode("latin-1"))
    cli("--precision", "int", "--calibration", str(file), "ask", "--question", "who?").fails_in_one_line(
        1, "is not UTF-8", "0xe9"
    )


def test_a_passage_typed_in_other_bytes() -> None:
    with pytest.raises(InputError, match="the passage holds .* at character 3"):
        read_passage(LATIN)


@pytest.mark.parametrize("option", [("--json",), ("--target", "cpu"), ("--calibration", "data.json")], ids=str)
def test_an_option_of_all_commands_after_the_command(cli: Cli, option: tuple[str, ...]) -> None:
    result = cli("ask", "--question", "Who?", *option)
    assert (result.code, result.out) == (2, "")
    assert f"No such option '{option[0]}' of ask: it stands before the command, run.py {option[0]}" in result.err


def test_an_option_that_nothing_has(cli: Cli) -> None:
    assert "No such option '--context-file'. Did you mean" in cli("ask", "--context-file", "x").err


@pytest.mark.parametrize(
    "name, asked",
    [
        ("--baseline", ("eval", "--data", "none.json", "--max-drop", "0.5", "--baseline", "")),  # no gate then
        ("--baseline", ("eval", "--data", "none.json", "--max-drop", "0.5", "--baseline=")),
        ("--reference", ("validate", "--pair", "customcpu:int", "--reference", "")),
        ("--device", ("--device", "", "ask", "--question", "Who?")),
        ("--output", ("quantize", "--output", "")),
    ],
    ids=str,
)
def test_an_option_that_is_given_nothing(cli: Cli, name: str, asked: tuple[str, ...]) -> None:
    """As "$FILE" is where FILE was never set: it was taken for one that is not given, or for this folder."""
    result = cli(*asked)
    assert (result.code, result.out) == (2, ""), result
    assert f"{name} is given nothing: give it a value, or leave it out" in result.err


@pytest.mark.parametrize("asked", [("ask", "--question", ""), ("ask", "--context=", "--question", "Who?")], ids=str)
def test_texts_that_are_empty_have_words_of_their_own(cli: Cli, asked: tuple[str, ...]) -> None:
    cli("--target", "customcpu", *asked).fails_in_one_line(1, "is empty: give")
