"""A run that was ended goes on as if it had not been."""

import json
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import InputError
from models.finetune import Step
from models.finetune.checkpoint import FILE
from tests.models.runs import EXAMPLES, SETTINGS, Killed, raise_at, run
from tests.models.samples import ROOT

TOTAL = 10  # steps, in two epochs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a run that nothing stopped."""
    return run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with the state of step 4."""
    with pytest.raises(Killed):
        run(tmp_path, on_step=raise_at(5))
    return tmp_path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("ended_at", range(1, TOTAL + 1))
def test_a_run_ended_at_any_step_is_resumed_to_the_bit(ended_at: int, tmp_path: Path, whole: dict[str, Tensor]) -> None:
    with pytest.raises(Killed):
        run(tmp_path, on_step=raise_at(ended_at))
    steps: list[Step] = []
    # Other weights at the start: all must come from the state.
    resumed = run(tmp_path, on_step=steps.append, seed=1 if ended_at > 2 else 0)
    assert same(resumed, whole)
    saved = max(step for step in (0, 2, 4, 5, 6, 8, 10) if step < ended_at)
    assert [step.number for step in steps] == list(range(saved + 1, TOTAL + 1))


def test_dropout_is_drawn(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    assert not same(run(tmp_path, dropout=0.0), whole)


def test_a_run_ended_twice(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    for ended_at in (3, 7):
        with pytest.raises(Killed):
            run(tmp_path, on_step=raise_at(ended_at))
    assert same(run(tmp_path), whole)


def test_a_process_that_was_killed(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    command = [sys.executable, "-m", "tests.models.runs", "killed", str(tmp_path), "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert same(run(tmp_path), whole)


def test_a_run_that_is_done_is_not_run_again(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    run(tmp_path)
    assert same(run(tmp_path, on_step=raise_at(TOTAL), seed=1), whole)


def test_without_resume_it_starts_again(stopped: Path, whole: dict[str, Tensor]) -> None:
    steps: list[Step] = []
    assert same(run(stopped, on_step=steps.append, resume=False), whole)
    assert steps[0].number == 1


def test_the_state_is_one_file_with_the_rights_of_any_other(stopped: Path) -> None:
    (stopped / f".{FILE}").touch(mode=0o600)  # as a kill in the midst of writing leaves one
    run(stopped)
    assert [path.name for path in stopped.iterdir()] == [FILE]
    (stopped / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in stopped.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 3),
        ("learning_rate", 1e-3),
        ("batch_size", 4),
        ("warmup", 0.2),
        ("weight_decay", 0.0),
        ("clip", 2.0),
        ("max_length", 120),
        ("stride", 15),
        ("unanswerable", 0.5),
        ("bf16", True),
        ("seed", 1),
    ],
)
def test_a_state_of_other_settings_is_one_line(stopped: Path, setting: str, value: object) -> None:
    # The seed and the share of unanswerable questions change the data too, which comes first.
    said = "data=" if setting in ("unanswerable", "seed") else f"{setting}={getattr(SETTINGS, setting)}"
    refused(stopped, said, settings=replace(SETTINGS, **{setting: value}))


def test_a_state_of_another_dropout_or_of_other_questions_is_one_line(stopped: Path) -> None:
    refused(stopped, r"dropout=\[0.1\], this one has \[0.0\]", dropout=0.0)
    refused(stopped, "data=", examples=EXAMPLES[::-1])


def refused(folder: Path, said: str, **options: object) -> None:
    with pytest.raises(InputError, match=said) as error:
        run(folder, **options)
    assert "--no-resume" in str(error.value) and "\n" not in str(error.value)


def rewrite(path: Path, notes: dict[str, str] | None, drop: str = "", shape: str = "") -> None:
    with safe_open(path, framework="pt") as file:
        saved = file.metadata()
    tensors = {name: value for name, value in load_file(path).items() if name != drop}
    if shape:
        tensors[shape] = tensors[shape][..., :1].clone()
    save_file(tensors, path, None if notes is None else saved | notes)


@pytest.mark.parametrize(
    ("notes", "drop", "shape", "said"),
    [
        (None, "", "", "damaged"),
        ({"step": "four"}, "", "", "damaged"),
        ({"run": "{"}, "", "", "damaged"),
        ({"run": json.dumps({})}, "", "", "of a run with"),
        ({}, "model.qa_outputs.bias", "", "another model"),
        ({}, "exp_avg.qa_outputs.bias", "", "another model"),
        ({}, "step.qa_outputs.bias", "", "another model"),
        ({}, "", "model.qa_outputs.bias", "another model"),
        ({}, "", "exp_avg_sq.bert.encoder.layer.0.output.dense.weight", "another model"),
    ],
    ids=["no notes", "step in words", "notes cut", "no settings", "weight", "moment", "count", "shape", "other shape"],
)
def test_a_state_that_does_not_fit_is_one_line(
    stopped: Path, notes: dict[str, str] | None, drop: str, shape: str, said: str
) -> None:
    rewrite(stopped / FILE, notes, drop, shape)
    with pytest.raises(InputError, match=said) as error:
        run(stopped)
    assert str(stopped / FILE) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 4, 1000, -1000])
def test_a_state_that_is_cut_is_one_line(stopped: Path, length: int) -> None:
    path = stopped / FILE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="damaged.*delete it"):
        run(stopped)
