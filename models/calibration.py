"""Calibration data: a few questions or passages, drawn at random, as the batches that a graph is called with."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.question_answering.examples import Example, read_examples, read_text
from models.question_answering.features import Window, collate, make_windows
from models.question_answering.predict import like_length_batches

SEED, BATCH = 0, 16
CHUNK = 512  # samples whose windows are there at once, 40 MB; made anew for every pass where there are more
SQUAD_ENDINGS = (".json", ".jsonl")


@dataclass(frozen=True)
class CalibrationData:
    """Batches of like length, the same at every iteration; of many samples no more than CHUNK are tokens at a time.
    file: its name; texts: questions or passages; windows_of: makes windows of some of them."""

    file: str
    texts: Sequence[Any]
    windows_of: Callable[[Sequence[Any]], list[Window]]
    pad_token_id: int

    @property
    def samples(self) -> int:
        return len(self.texts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for windows in self.windows():
            for indices in _batches(windows):
                yield collate([windows[index] for index in indices], self.pad_token_id)

    def windows(self) -> Iterator[list[Window]]:
        """→ those of CHUNK samples, and of the next"""
        if self.samples <= CHUNK:
            yield self._few
        else:
            for first in range(0, self.samples, CHUNK):
                yield self.windows_of(self.texts[first : first + CHUNK])

    @cached_property
    def _few(self) -> list[Window]:
        return self.windows_of(self.texts)

    @cached_property
    def _count(self) -> int:
        return sum(len(_batches(windows)) for windows in self.windows())


def _batches(windows: Sequence[Window]) -> list[list[int]]:
    return like_length_batches([len(window) for window in windows], BATCH)


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
    return CalibrationData(path.name, lines, partial(_of_passages, tokenizer, length), tokenizer.pad_token_id or 0)


def _of_passages(tokenizer: PreTrainedTokenizerFast, length: int, lines: Sequence[str]) -> list[Window]:
    encoded = tokenizer(list(lines), truncation=True, max_length=length, padding=False)
    types = encoded.get("token_type_ids")
    return [
        Window(row, ids, types[row] if types else None, [None] * len(ids))
        for row, ids in enumerate(encoded["input_ids"])
    ]


def from_questions(
    examples: list[Example], file: str, tokenizer: PreTrainedTokenizerFast, samples: int, length: int
) -> CalibrationData:
    """As read_calibration, of questions that are there already; file: where they are from, for the report."""
    chosen = random.Random(SEED).sample(examples, min(samples, len(examples)))
    windows_of = partial(make_windows, tokenizer, max_length=length)
    return CalibrationData(file, chosen, windows_of, tokenizer.pad_token_id or 0)
