"""Calibration data: a few questions or passages, drawn at random, as the batches that a graph is called with."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.question_answering.examples import Example, read_examples, read_text
from models.question_answering.features import Window, collate, make_windows
from models.question_answering.predict import like_length_batches

SEED, BATCH = 0, 16
SQUAD_ENDINGS = (".json", ".jsonl")


@dataclass(frozen=True)
class CalibrationData:
    """Batches of like length, the same at every iteration. file: its name; samples: how many questions or passages."""

    file: str
    samples: int
    windows: tuple[Window, ...]
    pad_token_id: int

    def __len__(self) -> int:
        return -(-len(self.windows) // BATCH)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for indices in like_length_batches([len(window) for window in self.windows], BATCH):
            yield collate([self.windows[index] for index in indices], self.pad_token_id)


def read_calibration(
    path: str | Path, tokenizer: PreTrainedTokenizerFast, samples: int, length: int = 384
) -> CalibrationData:
    """path: SQuAD in any layout where it ends in .json or .jsonl (and .gz), else text, one passage a line; length:
    the most tokens of a row.

    Questions become windows as `eval` makes them; a passage is cut after its first window. Raises InputError when the
    file can't be read or holds none.
    """
    path = Path(path)
    if path.name.removesuffix(".gz").endswith(SQUAD_ENDINGS):
        return from_questions(read_examples(path), path.name, tokenizer, samples, length)
    passages = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not passages:
        raise InputError(f"{path} holds no text: give a file with one passage a line, or a SQuAD file (.json)")
    lines = random.Random(SEED).sample(passages, min(samples, len(passages)))
    encoded = tokenizer(lines, truncation=True, max_length=length, padding=False)
    types = encoded.get("token_type_ids")
    windows = [
        Window(row, ids, types[row] if types else None, [None] * len(ids))
        for row, ids in enumerate(encoded["input_ids"])
    ]
    return CalibrationData(path.name, len(lines), tuple(windows), tokenizer.pad_token_id or 0)


def from_questions(
    examples: list[Example], file: str, tokenizer: PreTrainedTokenizerFast, samples: int, length: int
) -> CalibrationData:
    """As read_calibration, of questions that are there already; file: where they are from, for the report."""
    chosen = random.Random(SEED).sample(examples, min(samples, len(examples)))
    windows = make_windows(tokenizer, chosen, length)
    return CalibrationData(file, len(chosen), tuple(windows), tokenizer.pad_token_id or 0)
