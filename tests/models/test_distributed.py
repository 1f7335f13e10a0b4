"""Two processes under torchrun give what one gives, and resume as one does."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import load
from models.finetune import train
from models.finetune.checkpoint import FILE
from tests.models.runs import EXAMPLES, SETTINGS, WITHOUT_DROPOUT, first_step, run
from tests.models.samples import ROOT, SQUAD, tiny_bert, tiny_folder, tokenizer

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*TORCHRUN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `runs.together` left its weights and states."""
    folder = tmp_path_factory.mktemp("together")
    done = torchrun("-m", "tests.models.runs", "together", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_stopped_run_is_resumed_to_the_bit(two: Path) -> None:
    whole, resumed = load_file(two / "whole.safetensors"), load_file(two / "resumed.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_result_is_the_mean_in_the_state(two: Path) -> None:
    whole, state, resumed = (
        load_file(two / path) for path in ("whole.safetensors", f"whole/{FILE}", f"resumed/{FILE}")
    )
    assert state.keys() == resumed.keys()
    assert all(torch.equal(state[name], resumed[name]) for name in state)
    assert all(torch.equal(state[f"mean.{name}"], value) for name, value in whole.items())
    assert not torch.equal(state["mean.qa_outputs.weight"], state["model.qa_outputs.weight"])


@pytest.mark.parametrize("parts", WITHOUT_DROPOUT)
def test_the_gradient_is_the_mean_over_the_batch(parts: str, two: Path, tmp_path: Path) -> None:
    first_step(tmp_path, WITHOUT_DROPOUT[parts])
    alone, both = load_file(tmp_path / FILE), load_file(two / f"first of {parts}" / FILE)
    gradients = [name for name in alone if name.startswith("exp_avg.")]
    assert gradients
    for name in gradients:
        torch.testing.assert_close(both[name], alone[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("parts", WITHOUT_DROPOUT)
def test_two_processes_give_the_weights_of_one(parts: str, two: Path, tmp_path: Path) -> None:
    alone, both = run(tmp_path, WITHOUT_DROPOUT[parts], dropout=0.0), load_file(two / f"{parts}.safetensors")
    start = tiny_bert().state_dict()
    # Not each weight: AdamW takes a whole step also where the gradient is nothing but rounding, as at keys' biases.
    moved = torch.cat([(alone[name] - start[name]).flatten() for name in start]).norm()
    apart = torch.cat([(alone[name] - both[name]).flatten() for name in start]).norm()
    assert moved > 1 and apart < 0.05 * moved


def test_processes_that_do_not_share_a_folder_are_told(two: Path) -> None:
    for rank in (0, 1):
        assert "different steps [10, 0]" in (two / f"refusal {rank}").read_text()


def test_the_command_under_torchrun(tmp_path: Path) -> None:
    base, output = tiny_folder(tmp_path / "base"), tmp_path / "out"
    numbers = ["--epochs", "1", "--learning-rate", "0.01", "--batch-size", "5", "--max-length", "100", "--stride", "16"]
    files = ["--base", str(base), "--train", str(SQUAD / "sample-v1.1.json.gz"), "--output", str(output)]
    done = torchrun("run.py", "--json", "finetune", *files, *numbers, "--limit", "14", "--no-bf16", "--dropout", "0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["batch_size"] == 5  # printed by one of the two
    expected, _ = load(str(base), new_head=True, dropout=0.0, attention="eager")
    start = {name: value.clone() for name, value in expected.state_dict().items()}
    train(expected, tokenizer(), EXAMPLES, replace(SETTINGS, epochs=1), tmp_path / "alone")
    found = load(str(output))[0].state_dict()
    moved = sum((value - start[name]).square().sum() for name, value in expected.state_dict().items())
    apart = sum((value - found[name]).square().sum() for name, value in expected.state_dict().items())
    assert moved > 0.5 and apart < 0.05**2 * moved
