"""Folders that `quantize` and `calibrate` wrote, and what tests of killed calibrations change."""

import sys
from pathlib import Path

import pytest

from models import load
from models.calibration import read_calibration
from tests import tiny
from tests.commands.folders import tiny_folder
from tests.models.samples import SQUAD
from tests.toolkit.folders import INT
from tests.toolkit.storing import leave
from toolkit import checkpoint
from toolkit.calibrate import stream
from toolkit.equalize.observe import _Watcher
from toolkit.pipeline import quantized


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The tiny BERT's folder, quantized"""
    model = tiny.build("bert")
    checkpoint.save(quantized(model, INT), model, INT, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def few_rows(monkeypatch):
    """Fewer than there are tokens, so that which of them are drawn counts."""
    monkeypatch.setattr(sys.modules[_Watcher.__module__], "SAMPLE", 40)


@pytest.fixture
def seen(monkeypatch):
    """→ the batches that went through the graph in the passes of equalize"""
    found, see = [], _Watcher.see

    def counted(self, batch):
        found.append(batch)
        see(self, batch)

    monkeypatch.setattr(_Watcher, "see", counted)
    return found


@pytest.fixture
def always(monkeypatch):
    """The state is written after every batch."""
    monkeypatch.setattr(stream, "SECONDS", 0)
    monkeypatch.setattr(stream, "SHARE", 0)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """→ a folder with a model and its rounding, and the data"""
    folder = tiny_folder(tmp_path_factory.mktemp("model"), "ask")
    model, tokenizer = load(str(folder))
    data = read_calibration(SQUAD / "sample-v1.1.json.gz", tokenizer, 12)
    leave(folder, model, data)
    return folder, data
