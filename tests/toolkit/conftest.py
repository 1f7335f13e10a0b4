"""A folder that `quantize` wrote."""

from pathlib import Path

import pytest

from tests import tiny
from tests.toolkit.folders import INT
from toolkit import checkpoint
from toolkit.pipeline import quantized


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The tiny BERT's folder, quantized"""
    model = tiny.build("bert")
    checkpoint.save(quantized(model, INT), model, INT, tmp_path / "saved")
    return tmp_path / "saved"
