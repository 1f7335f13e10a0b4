"""Commands that calibrate, killed by SIGKILL in one of their passes and called again."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli import Cli
from tests.commands.folders import tiny_folder
from tests.models.samples import ROOT, SQUAD

# run.py with the cache folder and the batches before the kill in front of its arguments; a state after every batch
PROGRAM = """
import os, signal, sys
from pathlib import Path
import commands.passes, run
from toolkit.calibrate import stream

cache, left = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
commands.passes.cache_folder = lambda: cache
stream.SECONDS = stream.SHARE = 0
tokens = stream._real_tokens


def counted(batch):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return tokens(batch)


stream._real_tokens = counted
run.entry()
"""
GIVEN = ("--calibration", str(SQUAD / "sample-v1.1.json.gz"), "--samples", "40")  # 3 batches


def kill(cache: Path, left: int, arguments: tuple[str, ...]) -> None:
    threads = ("--threads", str(torch.get_num_threads()))
    command = [sys.executable, "-c", PROGRAM, str(cache), str(left), *threads, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("command", "batch", "states", "lasting"),
    [
        ("calibrate", 3, ["moments"], []),
        ("quantize", 8, ["calibration", "moments", "moments"], ["calibration"]),
    ],
    ids=["calibrate", "static, in its third pass"],
)
def test_a_process_that_was_killed(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    batch: int,
    states: list[str],
    lasting: list[str],
) -> None:
    found = []
    for name, killed in (("whole", False), ("killed", True)):
        model, cache, place = (tmp_path / f"{name}-{part}" for part in ("model", "cache", "place"))
        tiny_folder(model, "ask")
        monkeypatch.setattr("commands.passes.cache_folder", lambda folder=cache: folder)
        saving = ("--scheme", "static", command, "--output", str(place)) if command == "quantize" else (command,)
        made = place / "opswap.safetensors" if command == "quantize" else model / "rounding.safetensors"
        given = ("--model", str(model), *GIVEN, *saving)
        if killed:
            kill(cache, batch, given)
            assert kinds(cache) == states and not made.exists()
        done = cli(*given)
        assert done.code == 0 and "anew" not in done.err, done.err
        assert kinds(cache) == lasting
        found.append(load_file(made))
    whole, again = found
    assert whole.keys() == again.keys() and len(whole) > 30
    for key, tensor in whole.items():
        assert torch.equal(again[key], tensor), key


def kinds(cache: Path) -> list[str]:
    """→ of the states in the cache"""
    return sorted(path.name.partition("-")[0] for path in cache.iterdir()) if cache.exists() else []


# killed when it has written half of the rounding
HALF = """
import os, signal
import run
from toolkit.equalize import stored


def half(tensors, beside, metadata):
    beside.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)


stored.save = half
run.entry()
"""


def test_what_a_killed_one_left_in_the_models_folder_goes_with_the_next(cli: Cli, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", "ask")
    before = {path.name for path in model.iterdir()}
    given = ("--model", str(model), "--calibration", GIVEN[1], "--samples", "9", "calibrate")
    done = subprocess.run([sys.executable, "-c", HALF, *given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = {path.name for path in model.iterdir()} - before
    assert left.endswith("-rounding.safetensors") and [*(model / left).iterdir()]
    assert cli(*given).code == 0
    assert {path.name for path in model.iterdir()} == before | {"rounding.safetensors"}
