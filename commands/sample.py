"""A sample of questions whose windows are made once, and how near the answers of any graph are to float's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models import InputError
from models.question_answering.examples import Example, read_text
from models.question_answering.features import Window, collate, make_windows
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, like_length_batches, predict_windows
from targets._json import parse_json
from toolkit.sensitivity import Score


@dataclass(frozen=True)
class Sample:
    """examples and their windows; pad: the token that fills a batch; expected: float's answers by question id."""

    examples: Sequence[Example]
    windows: Sequence[Window]
    pad: int
    batch_size: int
    expected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], batch_size: int, max_length: int,
           stride: int | None = None) -> "Sample":  # fmt: skip
        return cls(examples, make_windows(tokenizer, examples, max_length, stride), tokenizer.pad_token_id, batch_size)

    def against(self, expected: dict[str, str]) -> "Sample":
        """→ the same, with float's answers"""
        return replace(self, expected=expected)

    def first(self, count: int) -> "Sample":
        """→ `count` of the questions, spread evenly"""
        places = places_of(len(self.examples), count)
        renamed = {old: new for new, old in enumerate(places)}
        windows = [replace(w, example=renamed[w.example]) for w in self.windows if w.example in renamed]
        return replace(self, examples=[self.examples[place] for place in places], windows=windows)

    def batches(self, count: int) -> list[dict[str, Tensor]]:
        """→ `count` of the windows, spread evenly, as the model takes them, in batches of like length"""
        windows = [self.windows[place] for place in places_of(len(self.windows), count)]
        found = like_length_batches([len(window) for window in windows], self.batch_size)
        return [collate([windows[place] for place in places], self.pad) for places in found]

    def answers(self, graph: Callable[..., Any], progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
        """→ question id → text"""
        found = predict_windows(graph, self.pad, self.windows, len(self.examples), self.batch_size, progress)
        return answer_texts(self.examples, found, None if all(e.answers for e in self.examples) else 0.0)

    def score(self, graph: Callable[..., Any]) -> Score:
        texts = self.answers(graph)
        changed = sum(texts[example.id] != self.expected[example.id] for example in self.examples)
        f1 = evaluate(self.examples, texts)["f1"]
        return Score(f1, self.expected_f1() - f1, 100 - 100 * changed / len(self.examples), changed)

    def expected_f1(self) -> float:
        """→ float's"""
        return evaluate(self.examples, self.expected)["f1"]


def spread(examples: Sequence[Example], count: int) -> list[Example]:
    """→ at most `count` examples, spread evenly: files are sorted by article"""
    return [examples[place] for place in places_of(len(examples), count)]


def places_of(total: int, count: int) -> list[int]:
    """→ `count` of 0 .. total - 1 at even distances; all of them where there are no more"""
    count = min(count, total)
    return [place * total // count for place in range(count)]


def read_reference(path: str, examples: Sequence[Example]) -> dict[str, str]:
    """→ question id → answer, of a file that `eval --predictions` wrote. Raises InputError where one is missing."""
    try:
        texts = parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}): give what eval --predictions wrote") from error
    missing = [e.id for e in examples if not (isinstance(texts, dict) and isinstance(texts.get(e.id), str))]
    if missing:
        raise InputError(
            f"{path} has no answer to {len(missing)} of {len(examples)} questions, such as {missing[0]}: "
            "give what eval --predictions wrote for the same data"
        )
    return {e.id: texts[e.id] for e in examples}
