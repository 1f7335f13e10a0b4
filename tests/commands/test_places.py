"""Files that commands write: a place that can't be written is said in one line, before anything is loaded."""

from pathlib import Path

import pytest

from tests.cli import Cli

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
COMMANDS = {
    "eval": (("eval", "--data", SAMPLE), "--predictions"),
    "encode": (("encode", "--text", "some words"), "--output"),
    "validate": (("validate", "--pair", "customcpu:int"), "--output"),
    "validate, saved": (("validate", "--pair", "customcpu:int"), "--save"),
    "bench": (("bench",), "--output"),
    "bench, traced": (("bench",), "--trace"),
    "sensitivity": (("sensitivity", "--data", SAMPLE), "--output"),
    "export": (("export",), "--output"),
    "plan": (("--target", "aie", "--precision", "int", "plan"), "--output"),
}


@pytest.mark.parametrize("command, option", COMMANDS.values(), ids=COMMANDS)
def test_a_place_inside_of_a_file(cli: Cli, tmp_path: Path, command: tuple[str, ...], option: str) -> None:
    (tmp_path / "file").touch()
    # that no model of this name is there would be said first if it were looked for before
    result = cli("--model", str(tmp_path / "no model"), *command, option, str(tmp_path / "file" / "result"))
    result.fails_in_one_line(1, str(tmp_path / "file" / "result"), "can't be written", "give another place")


@pytest.mark.parametrize("name", ["bench", "sensitivity", "plan"])
def test_a_folder_is_no_beginning_of_names(cli: Cli, name: str) -> None:
    command, option = COMMANDS[name]
    cli("--model", "no/such/model", *command, option, ".").fails_in_one_line(1, ". is a folder")


def test_a_folder_is_no_file(cli: Cli, tmp_path: Path) -> None:
    command, option = COMMANDS["eval"]
    cli("--model", "no/such/model", *command, option, str(tmp_path)).fails_in_one_line(1, "it is a folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked",
    [("validate", "--pair", "customcpu:int", "--save", "made", "--output", "./made"),
     ("bench", "--trace", "made.json", "--output", "made")],
    ids=["validate", "bench"],
)  # fmt: skip
def test_two_files_at_one_place(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    """The second one took the place of the first."""
    monkeypatch.chdir(tmp_path)
    result = cli("--model", "no/such/model", *asked)
    result.fails_in_one_line(1, "would be written twice: give each file a place of its own")


def test_a_folder_is_no_exported_file(cli: Cli, tmp_path: Path) -> None:
    cli("--model", "no/such/model", "export", "--output", str(tmp_path)).fails_in_one_line(1, "is a folder: give the")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_made(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "new" / "folder" / "answers.json"
    done = cli("--target", "customcpu", "--precision", "int", "eval", "--data", SAMPLE, "--limit", "1",
               "--predictions", str(place))  # fmt: skip
    assert done.code == 0 and place.read_text("utf-8").startswith("{")


def test_a_folder_that_is_gone(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch ends a process there, by a line about its libraries."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    cli("doctor").fails_in_one_line(1, "the folder that this runs in is gone: change to one that is there")
