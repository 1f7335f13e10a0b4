"""The `cli` fixture, and a place of each test's own for what calibrations leave."""

from pathlib import Path

import pytest

from tests.cli import Cli


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def calibrations(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where calibrations are kept: not in the user's cache, which no test may fill or find an earlier one in."""
    folder = tmp_path_factory.mktemp("calibrations")
    monkeypatch.setattr("commands.passes.cache_folder", lambda: folder)
    return folder
