"""A run that was ended goes on as if it had not been."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.finetune import Settings, Step
from models.finetune.checkpoint import FILE
from tests.models.runs import AVERAGED, SETTINGS, Killed, raise_at, run
from tests.models.samples import ROOT

TOTAL = 10  # steps, in two epochs


@pytest.fixture(scope="module", params=[SETTINGS, AVERAGED], ids=["last weights", "mean"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Runs that end with the last weights, and with the mean of some."""
    return request.param


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a run that nothing stopped."""
    return run(tmp_path_factory.mktemp("whole"), settings)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("ended_at", range(1, TOTAL + 1))
def test_a_run_ended_at_any_step_is_resumed_to_the_bit(
    ended_at: int, tmp_path: Path, settings: Settings, whole: dict[str, Tensor]
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, settings, raise_at(ended_at))
    steps: list[Step] = []
    # Other weights at the start: all must come from the state.
    resumed = run(tmp_path, settings, steps.append, seed=1 if ended_at > 2 else 0)
    assert same(resumed, whole)
    saved = max(step for step in (0, 2, 4, 5, 6, 8, 10) if step < ended_at)
    assert [step.number for step in steps] == list(range(saved + 1, TOTAL + 1))


def test_dropout_is_drawn(tmp_path: Path, settings: Settings, whole: dict[str, Tensor]) -> None:
    assert not same(run(tmp_path, settings, dropout=0.0), whole)


def test_a_run_ended_twice(tmp_path: Path, settings: Settings, whole: dict[str, Tensor]) -> None:
    for ended_at in (3, 9):
        with pytest.raises(Killed):
            run(tmp_path, settings, raise_at(ended_at))
    assert same(run(tmp_path, settings), whole)


def test_a_process_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.models.runs", "killed", str(tmp_path), "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert same(run(tmp_path, AVERAGED), run(tmp_path / "whole", AVERAGED))


def test_a_run_that_is_done_is_not_run_again(tmp_path: Path, settings: Settings, whole: dict[str, Tensor]) -> None:
    run(tmp_path, settings)
    steps: list[Step] = []
    assert same(run(tmp_path, settings, steps.append, seed=1), whole)
    assert not steps


def test_a_run_ended_in_its_last_evaluation(tmp_path: Path, settings: Settings, whole: dict[str, Tensor]) -> None:
    def on_epoch(epoch: int) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, settings, on_epoch=on_epoch)
    assert same(run(tmp_path, settings, raise_at(TOTAL), seed=1), whole)


def test_without_resume_it_starts_again(stopped: Path, settings: Settings, whole: dict[str, Tensor]) -> None:
    steps: list[Step] = []
    assert same(run(stopped, settings, steps.append, resume=False), whole)
    assert steps[0].number == 1


def test_the_state_is_one_file_with_the_rights_of_any_other(stopped: Path) -> None:
    (stopped / f".{FILE}").touch(mode=0o600)  # as a kill in the midst of writing leaves one
    run(stopped)
    assert [path.name for path in stopped.iterdir()] == [FILE]
    (stopped / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in stopped.iterdir()}
    assert len(modes) == 1
