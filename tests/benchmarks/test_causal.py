"""The small language model that is trained and measured: every row of its table, on real text."""

import re

import pytest
from click.testing import CliRunner

from benchmarks import causal

SAMPLE = "tests/data/squad/sample-v1.1.json.gz"


def test_every_recipe_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HELD_OUT": 6, "VOCABULARY": 300, "BEGINNINGS": 2, "CONTINUED": 3}.items():
        monkeypatch.setattr(causal, name, value)
    result = CliRunner().invoke(causal.main, ["--train", SAMPLE, "--steps", "2"])
    assert result.exit_code == 0, result.output
    rows = re.findall(r"^\| (.+) \| ([\d.]+) dB \| ([\d.]+) \| ([\d.]+)% \| (\d) of 2 \|$", result.output, re.MULTILINE)
    assert [row[0] for row in rows] == list(causal.RECIPES)
    (float_loss,) = re.findall(r"loss \(float ([\d.]+)\)", result.output)
    for _, sqnr, loss, equal, _ in rows:
        assert float(sqnr) > 25 and float(equal) > 50 and float(loss) == pytest.approx(float(float_loss), abs=0.02)


def test_too_few_passages() -> None:
    result = CliRunner().invoke(causal.main, ["--train", SAMPLE])
    assert result.exit_code == 1
    assert result.output == f"Error: more than 39 passages were wanted; {SAMPLE} has 17: give a larger file\n"
