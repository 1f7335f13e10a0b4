"""Calibration data from files: the same questions every time, windows as eval makes them, or passages of text."""

import gzip
from pathlib import Path

import pytest
import torch

from models.calibration import BATCH, read_calibration
from models.errors import InputError
from models.question_answering.features import make_windows
from tests.models.samples import SQUAD, sample, tokenizer

SAMPLE = SQUAD / "sample-v1.1.json.gz"


def test_questions_become_the_windows_of_eval() -> None:
    data = read_calibration(SAMPLE, tokenizer(), 1000)
    assert (data.file, data.samples) == ("sample-v1.1.json.gz", len(sample()))
    expected = sorted(tuple(window.input_ids) for window in make_windows(tokenizer(), sample()))
    assert sorted(tuple(window.input_ids) for window in data.windows) == expected
    rows = [
        row[mask.bool()]
        for batch in data
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert sorted(tuple(row.tolist()) for row in rows) == expected
    assert len(data) == len(list(data)) == -(-len(expected) // BATCH)


def test_the_same_sample_every_time() -> None:
    first, again = (read_calibration(SAMPLE, tokenizer(), 9) for _ in range(2))
    assert first == again and first.samples == 9
    batches = zip(first, first, strict=True)  # and every iteration
    assert all(torch.equal(one[name], other[name]) for one, other in batches for name in one)
    assert {tuple(window.input_ids) for window in first.windows} != {
        tuple(window.input_ids) for window in make_windows(tokenizer(), sample()[:9])
    }


@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ""])
def test_text_is_one_passage_a_line(tmp_path: Path, ending: str) -> None:
    lines = ["The mill stands on the river.", "", "  It grinds oats.  ", "oats " * 900]
    path, raw = tmp_path / f"passages{ending}", "\n".join(lines).encode()
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    data = read_calibration(path, tokenizer(), 128)
    assert data.samples == 3 and sorted(len(window) for window in data.windows)[-1] == 384
    texts = {tokenizer().decode(window.input_ids, skip_special_tokens=True) for window in data.windows}
    assert {"the mill stands on the river.", "it grinds oats."} <= texts
    (batch,) = data
    assert batch.keys() == {"input_ids", "attention_mask", "token_type_ids"}


def test_a_tokenizer_without_types() -> None:
    (batch, *_) = read_calibration(SAMPLE, tokenizer("byte-level"), 3)
    assert batch.keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("name, text, said", [("empty.txt", " \n\n", "no text"), ("x.json", "[1", "not JSON")])
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_calibration(path, tokenizer(), 3)
