"""Files that this user may not read: one line that says so, not that they are missing or damaged."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Cli
from tests.commands.folders import tiny_folder

SAID = "may not be read or written by this user (Permission denied): change its rights, or give another place"


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """What is put in here can't be opened: the rights of files mean nothing to root, whom tests may run as."""
    paths: set[Path] = set()
    opened = Path.open

    def guarded(path: Path, *how: Any, **more: Any) -> Any:
        if path in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", guarded)
    return paths


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_models_file(cli: Cli, tmp_path: Path, forbidden: set[Path], name: str) -> None:
    forbidden.add(tiny_folder(tmp_path, "ask") / name)
    cli("--model", str(tmp_path), "ask", "--question", "Who?").fails_in_one_line(1, f"{tmp_path / name} {SAID}")


@pytest.mark.parametrize("name", ["opswap.json", "opswap.safetensors"])
def test_a_quantized_models_file(cli: Cli, tmp_path: Path, forbidden: set[Path], name: str) -> None:
    saved = tmp_path / "saved"
    made = cli("--model", str(tiny_folder(tmp_path / "float", "ask")), "quantize", "--output", str(saved))
    assert made.code == 0, made.err
    forbidden.add(saved / name)
    cli("--model", str(saved), "ask", "--question", "Who?").fails_in_one_line(1, f"{saved / name} {SAID}")


def test_a_reference(cli: Cli, tmp_path: Path, forbidden: set[Path]) -> None:
    path = tmp_path / "outputs.safetensors"
    path.touch()
    forbidden.add(path)
    found = cli("validate", "--pair", "customcpu:int", "--reference", str(path))
    found.fails_in_one_line(2, f"{path} can't be read (Permission denied): give a file that validate --save wrote")
