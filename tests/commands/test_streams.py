"""Standard input and output that are closed: Python has None for them."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = f"{shlex.quote(sys.executable)} run.py --target customcpu"


@pytest.mark.parametrize("asked", ["ask", "encode"])
def test_a_standard_input_that_is_closed_is_an_empty_one(asked: str) -> None:
    done = subprocess.run(f"{SHELL} {asked} <&-", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "standard input holds no" in done.stderr


def test_a_standard_output_that_is_closed_is_one_line() -> None:
    """What was asked for would be lost, and a file that is opened next would be standard output."""
    done = subprocess.run(f"{SHELL} ask --question Who >&-", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "Error: standard output is closed: give it a file, or /dev/null\n"


@pytest.mark.parametrize("asked", ["doctor", "--json doctor", "--help", "ask --help"])
def test_a_standard_output_without_room_is_one_line(asked: str) -> None:
    done = subprocess.run(f"{SHELL} {asked} >/dev/full", shell=True, cwd=ROOT, capture_output=True, text=True)
    said = "standard output can't be written (No space left on device): make room, or give it another file"
    assert (done.returncode, done.stderr) == (1, f"opswap: {said}\n")
