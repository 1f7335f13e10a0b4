"""What `make` says before it sets anything up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = 'exec {0} -c "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])" "$2"'  # of python -c CODE


def make(folder: Path, script: str, place: str) -> subprocess.CompletedProcess[str]:
    """`make run` in a copy of what it reads, with the shell script as the Python at `place`"""
    for name in ("Makefile", "setup.cfg", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / place
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\n{script.format(sys.executable)}\n")
    python.chmod(0o755)
    given = f"PYTHON={python}" if place != ".venv/bin/python" else "--"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", "run", given], cwd=folder, capture_output=True, text=True, env=clean)


@pytest.mark.parametrize("place", ["old/python3", ".venv/bin/python"])
def test_a_python_that_is_too_old_is_one_line(tmp_path: Path, place: str) -> None:
    """One that .venv was made of earlier too"""
    done = make(tmp_path, OLD, place)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode and done.stdout == "", done
    assert len(said) == 1 and "Python 3.11 or later" in said[0] and "is 3.9" in said[0], done.stderr
    assert place == ".venv/bin/python" or not (tmp_path / ".venv").exists()


def test_a_python_that_is_not_too_old_makes_the_environment(tmp_path: Path) -> None:
    """Up to there: the one here only says what it was called for."""
    done = make(tmp_path, 'case "$1" in -c) exec {0} "$@";; *) echo called "$@"; exit 1;; esac', "new/python3")
    assert "called -m venv .venv" in done.stdout, done
