"""What `validate` asks every side: the same rows of tokens, and how their outputs become answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from commands.story import QUESTIONS, SENTENCES, STORY
from commands.texts import lines_of
from models.question_answering.examples import Example, read_examples, read_text
from models.question_answering.features import Window, make_windows
from models.question_answering.predict import answer_texts, predict_windows
from models.tasks import ASK, CLASSIFY, GENERATE, TAG, Task
from models.texts import longest_row, text_windows, through
from toolkit.validate import digest

BUILT_IN = "the built-in story"
SQUAD_ENDINGS = (".json", ".jsonl")


@dataclass(frozen=True)
class Inputs:
    """windows: the rows; examples: of question answering, none elsewhere; pad: the token that fills a batch; about:
    what describes them to people."""

    task: Task
    windows: list[Window]
    examples: list[Example]
    pad: int
    about: dict[str, Any]

    def digest(self) -> str:
        return digest(self.task.name, [(window.input_ids, window.token_type_ids) for window in self.windows])

    def answers(self, run: Callable[..., Any], batch_size: int) -> dict[str, str]:
        """Calls `run` with every row, in batches. → id → answer; none where the task has no answers"""
        if self.task is ASK:
            found = predict_windows(run, self.pad, self.windows, len(self.examples), batch_size)
            return answer_texts(self.examples, found, None if all(e.answers for e in self.examples) else 0.0)
        answers: dict[str, str] = {}
        for places, batch, output in through(run, self.pad, self.windows, batch_size):
            if self.task in (CLASSIFY, TAG, GENERATE):
                answers |= _best(output.logits, places, batch["attention_mask"])
        return answers


def _best(logits: Tensor, places: list[int], mask: Tensor) -> dict[str, str]:
    """logits [B, C] → the best class of each row; [B, S, C] → of each real token (of a language model: the next)"""
    best = logits.argmax(-1)
    if best.dim() == 1:
        return {str(place): str(value) for place, value in zip(places, best.tolist(), strict=True)}
    rows = [best[row, : int(mask[row].sum())].tolist() for row in range(len(places))]
    return {f"{p}:{token}": str(value) for p, row in zip(places, rows, strict=True) for token, value in enumerate(row)}


def read_inputs(
    task: Task, tokenizer: Any, config: Any, model: str, data: str | None, limit: int | None,
    max_length: int | None = None, stride: int | None = None,
) -> Inputs:  # fmt: skip
    """data: a SQuAD file, or for other tasks than question answering also text, one a line; None: the built-in story.

    Raises InputError when it can't be read.
    """
    length = longest_row(tokenizer, config, max_length)
    examples: list[Example] = []
    if task is ASK:
        examples = questions_of(data, limit)
        windows = make_windows(tokenizer, examples, length, stride)
    else:
        windows, _ = text_windows(tokenizer, texts_of(data, limit), length)
    about = {
        "task": task.name,
        "model": model,
        "data": Path(data).name if data else BUILT_IN,
        "rows": len(windows),
        "tokens": sum(len(window) for window in windows),
        "max_length": length,
    }
    return Inputs(task, windows, examples, tokenizer.pad_token_id, about)


def questions_of(data: str | None, limit: int | None) -> list[Example]:
    asked = [Example(str(i), "", STORY, question, ()) for i, question in enumerate(QUESTIONS)]
    return read_examples(data, limit) if data else asked[:limit]


def texts_of(data: str | None, limit: int | None) -> list[str]:
    if data is None:
        return SENTENCES[:limit]
    if Path(data).name.removesuffix(".gz").endswith(SQUAD_ENDINGS):
        texts = list(dict.fromkeys(example.context for example in read_examples(data)))
    else:
        texts = lines_of(read_text(data), data)
    return texts[:limit]
