"""The bars of calibration's passes."""

from rich.progress import Progress

from commands.passes import Passes, shown
from models import load
from models.calibration import CalibrationData, from_questions
from models.question_answering.examples import Example
from tests.cli import Cli


def data() -> CalibrationData:

    tokenizer = load("minilm-squad")[1]
    examples = [Example(str(i), "", "The lamp burned all night. " * (1 + i), "What burned?", ()) for i in range(20)]
    return from_questions(examples, "made.json", tokenizer, samples=20, length=128)


def test_each_pass_has_a_bar_that_is_full_in_the_end():
    with Progress(disable=True) as bar:
        passes = Passes(data(), bar)
        first, second = list(passes), list(passes)
    assert len(first) == len(second) == len(passes) > 1
    assert all((one["input_ids"] == other["input_ids"]).all() for one, other in zip(first, second, strict=True))
    assert [task.description for task in bar.tasks] == ["calibrating, pass 1", "calibrating, pass 2"]
    assert all(task.finished and task.completed == len(passes) for task in bar.tasks)


def test_a_pass_that_is_left_stays_where_it_was():
    with Progress(disable=True) as bar:
        next(iter(Passes(data(), bar)))
    assert bar.tasks[0].completed == 0


def test_without_data_there_is_nothing_to_show():
    with shown(None) as passes:
        assert passes is None


def test_where_there_is_no_terminal_there_is_no_bar(cli: Cli, tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The lamp burned all night.\nThe storm ended.\n")
    done = cli("--target", "customcpu", "--precision", "int", "--calibration", str(text), "--samples", "2", "ask",
               "--question", "What burned?", "--context", "The lamp burned all night.")  # fmt: skip
    assert done.code == 0 and "calibrating" not in done.err
