"""Calibration data from files: the same questions every time, windows as eval makes them, or passages of text."""

import gzip
import weakref
from pathlib import Path

import pytest
import torch

from models import calibration
from models.calibration import BATCH, CalibrationData, read_calibration
from models.errors import InputError
from models.question_answering.features import Window, make_windows
from tests.models.samples import SQUAD, sample, tokenizer

SAMPLE = SQUAD / "sample-v1.1.json.gz"


def windows_of(data: CalibrationData) -> list[Window]:
    return [window for few in data.windows() for window in few]


def rows_of(data: CalibrationData) -> list[tuple[int, ...]]:
    """The real tokens of every row of its batches, sorted"""
    pairs = (zip(batch["input_ids"], batch["attention_mask"], strict=True) for batch in data)
    return sorted(tuple(row[mask.bool()].tolist()) for pair in pairs for row, mask in pair)


def test_questions_become_the_windows_of_eval() -> None:
    data = read_calibration(SAMPLE, tokenizer(), 1000)
    assert (data.file, data.samples) == ("sample-v1.1.json.gz", len(sample()))
    expected = sorted(tuple(window.input_ids) for window in make_windows(tokenizer(), sample()))
    assert sorted(tuple(window.input_ids) for window in windows_of(data)) == expected == rows_of(data)
    assert len(data) == len(list(data)) == -(-len(expected) // BATCH)


def test_the_same_sample_every_time() -> None:
    first, again = (read_calibration(SAMPLE, tokenizer(), 9) for _ in range(2))
    assert windows_of(first) == windows_of(again) and first.samples == 9
    batches = zip(first, first, strict=True)  # and every iteration
    assert all(torch.equal(one[name], other[name]) for one, other in batches for name in one)
    assert {tuple(window.input_ids) for window in windows_of(first)} != {
        tuple(window.input_ids) for window in make_windows(tokenizer(), sample()[:9])
    }


@pytest.mark.parametrize("text", [False, True], ids=["questions", "text"])
def test_memory_does_not_grow_with_the_samples(text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of all samples were made at once and held: 3 GB of 40,000 questions."""
    path, made = SAMPLE, []
    if text:
        path = tmp_path / "passages.txt"
        path.write_text("\n".join({example.question for example in sample()}))
    whole = read_calibration(path, tokenizer(), 90)
    expected = rows_of(whole)

    def noted(*args, **kwargs) -> Window:
        made.append(weakref.ref(window := Window(*args, **kwargs)))
        return window

    monkeypatch.setattr(calibration, "CHUNK", 8)
    for place in ("models.calibration.Window", "models.question_answering.features.Window"):
        monkeypatch.setattr(place, noted)
    data = read_calibration(path, tokenizer(), 90)
    held = [sum(ref() is not None for ref in made) for _ in data]
    assert 0 < max(held) <= 2 * 8 + 8 < len(expected) and len(held) == len(data) == -(-90 // 8)
    assert rows_of(data) == expected


@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ""])
def test_text_is_one_passage_a_line(tmp_path: Path, ending: str) -> None:
    lines = ["The mill stands on the river.", "", "  It grinds oats.  ", "oats " * 900]
    path, raw = tmp_path / f"passages{ending}", "\n".join(lines).encode()
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    data = read_calibration(path, tokenizer(), 128)
    assert data.samples == 3 and sorted(len(window) for window in windows_of(data))[-1] == 384
    texts = {tokenizer().decode(window.input_ids, skip_special_tokens=True) for window in windows_of(data)}
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
