"""The bars of calibration's passes."""

from pathlib import Path

import pytest
from rich.progress import Progress

from commands.passes import Passes, shown
from tests.cli import Cli
from tests.commands.folders import tiny_folder


def test_each_pass_has_a_bar_that_is_full_in_the_end() -> None:
    with Progress(disable=True) as bar:
        told = Passes(bar, 3)
        for done in (*range(4), *range(4)):
            told(done)
    assert [task.description for task in bar.tasks] == ["calibrating, pass 1", "calibrating, pass 2"]
    assert all(task.finished and task.completed == task.total == 3 for task in bar.tasks)


def test_a_pass_that_is_left_stays_where_it_was() -> None:
    with Progress(disable=True) as bar:
        Passes(bar, 3)(0)
    assert bar.tasks[0].completed == 0


def test_a_pass_that_is_gone_on_with_begins_where_it_was() -> None:
    """And what it did not do itself is nothing that the time left is reckoned by."""
    with Progress(disable=True) as bar:
        told = Passes(bar, 5)
        for done in (5, 3, 4, 5, 0):
            told(done)
            if done == 3:
                assert bar.tasks[1].completed == 3 and bar.tasks[1].speed is None
    assert [task.completed for task in bar.tasks] == [5, 5, 0]


@pytest.mark.parametrize("options", [(), ("--scheme", "static")], ids=["dynamic", "static"])
def test_a_checksum_of_the_data_is_no_pass(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    text, bars = tmp_path / "text.txt", list[Progress]()
    text.write_text("The lamp burned all night.\nThe storm ended.\n")

    def made() -> Progress:
        bars.append(Progress(disable=True))
        return bars[-1]

    monkeypatch.setattr("commands.passes.progress_bar", made)
    model = str(tiny_folder(tmp_path / "model", "ask"))
    done = cli("--model", model, "--precision", "int", *options, "--calibration", str(text), "ask",
               "--question", "What burned?", "--context", "The lamp burned all night.")  # fmt: skip
    assert done.code == 0, done.err
    (bar,) = bars
    assert len(bar.tasks) == 2 + len(options) // 2 and all(task.finished for task in bar.tasks)


def test_without_data_there_is_nothing_to_show():
    with shown(None) as passes:
        assert not passes


def test_where_there_is_no_terminal_there_is_no_bar(cli: Cli, tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The lamp burned all night.\nThe storm ended.\n")
    done = cli("--target", "customcpu", "--precision", "int", "--calibration", str(text), "--samples", "2", "ask",
               "--question", "What burned?", "--context", "The lamp burned all night.")  # fmt: skip
    assert done.code == 0 and "calibrating" not in done.err
