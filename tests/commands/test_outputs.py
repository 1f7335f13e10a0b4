"""Where results go: a place that can't be written is said before the work that it is to hold."""

from pathlib import Path

import pytest

from tests.cli import Cli

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")


@pytest.mark.parametrize(("command", "option"), [
    (("bench",), "--output"),
    (("bench",), "--trace"),
    (("eval", "--data", SAMPLE), "--predictions"),
    (("sensitivity", "--data", SAMPLE), "--output"),
    (("validate", "--pair", "customcpu:fp"), "--output"),
    (("validate", "--pair", "customcpu:fp"), "--save"),
])  # fmt: skip
def test_commands_say_so_before_they_load_a_model(cli: Cli, tmp_path: Path, command, option: str) -> None:
    (tmp_path / "file").write_text("")
    cli(*command, option, str(tmp_path / "file" / "below")).fails_in_one_line(1, "can't be written", "another place")
