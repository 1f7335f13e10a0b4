"""Questions through a model: windows in batches of like length, answers in the questions' order."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.numbers import require_numbers
from models.question_answering.examples import Example
from models.question_answering.features import Window, collate, make_windows
from models.question_answering.spans import Answer, Span, merge, window_spans


def like_length_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of near-equal length, longest first, so that little is spent on padding."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def predict(
    model: Callable[..., Any],
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    batch_size: int = 16,
    max_length: int = 384,
    stride: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """One Answer a question, in order. `progress` is told (windows done, windows in all) after each batch.

    Raises InputError when `max_length` is too small and when the model gives NaN.
    """
    windows = make_windows(tokenizer, examples, max_length, stride)
    return predict_windows(model, tokenizer.pad_token_id, windows, len(examples), batch_size, progress)


def predict_windows(
    model: Callable[..., Any],
    pad_token_id: int,
    windows: Sequence[Window],
    examples: int,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """`predict` for windows that are made already, of as many examples as `examples` says."""
    found: list[list[tuple[int, list[Span], float]]] = [[] for _ in range(examples)]
    done = 0
    for indices in like_length_batches([len(window) for window in windows], batch_size):
        for index, result in zip(indices, _run(model, pad_token_id, [windows[i] for i in indices]), strict=True):
            found[windows[index].example].append((index, *result))
        done += len(indices)
        if progress is not None:
            progress(done, len(windows))
    return [merge([(spans, null) for _, spans, null in sorted(parts, key=lambda part: part[0])]) for parts in found]


@torch.inference_mode()
def _run(model: Callable[..., Any], pad_token_id: int, windows: list[Window]) -> list[tuple[list[Span], float]]:
    output = model(**collate(windows, pad_token_id))
    starts, ends = output.start_logits, output.end_logits
    require_numbers(starts, ends)
    nulls = (starts[:, 0] + ends[:, 0]).float().tolist()
    return [
        (window_spans(window, starts[row, : len(window)], ends[row, : len(window)]), nulls[row])
        for row, window in enumerate(windows)
    ]


def answer_texts(
    examples: Sequence[Example], answers: Sequence[Answer], null_threshold: float | None = None
) -> dict[str, str]:
    """Question id → text of the best span; with a `null_threshold`, "" where the null answer wins.

    Raises InputError where two questions have one id: one's answer would stand for both.
    """
    texts: dict[str, str] = {}
    for example, answer in zip(examples, answers, strict=True):
        if example.id in texts:
            raise InputError(f"two questions have the id {example.id!r}: give each one of its own")
        null = not answer.spans or (null_threshold is not None and answer.is_null(null_threshold))
        texts[example.id] = "" if null else example.context[answer.spans[0].start : answer.spans[0].end]
    return texts
