"""Which windows a training run sees, and in which order: a function of the seed alone."""

import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from models.question_answering.examples import Example
from models.question_answering.features import Window, answer_positions, make_windows

POOL_BATCHES = 50  # batches sorted by length together: little padding, and still a random order


@dataclass(frozen=True)
class TrainingWindow:
    """A window and the first and last token of its answer; (0, 0) where it holds none."""

    window: Window
    start: int
    end: int


def unanswerable(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """At most `share`·len(examples) questions, each on another passage of its article that lacks its answers."""
    passages: dict[str, dict[str, None]] = defaultdict(dict)  # a set that keeps the order
    for example in examples:
        passages[example.title][example.context] = None
    contexts = {title: list(found) for title, found in passages.items()}
    draw = random.Random(seed)
    wanted = round(share * len(examples))
    found: list[Example] = []
    for example in draw.sample(list(examples), len(examples)):
        if len(found) == wanted:
            break
        context = draw.choice(contexts[example.title])
        held = any(text.lower() in context.lower() for text, _ in example.answers)
        if example.answers and context != example.context and not held:
            found.append(Example(f"{example.id}-none", example.title, context, example.question, ()))
    return found


def checksum(examples: Sequence[Example]) -> int:
    """A number that other questions, passages or answers, or another order of them, would hardly have."""
    total = 0
    for example in examples:
        total = zlib.crc32(repr(example).encode(), total)
    return total


def training_windows(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], max_length: int, stride: int
) -> list[TrainingWindow]:
    """Every window of every question with the place of its first reference answer."""
    windows = make_windows(tokenizer, examples, max_length, stride)
    return [
        TrainingWindow(window, *answer_positions(window, next(iter(examples[window.example].answers), None)))
        for window in windows
    ]


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices in batches of like length in random order; the last batch may be smaller."""
    draw = random.Random(f"{seed}-{epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    pool = POOL_BATCHES * batch_size
    batches = []
    for first in range(0, len(order), pool):
        part = sorted(order[first : first + pool], key=lambda index: (lengths[index], index))
        batches += [part[begin : begin + batch_size] for begin in range(0, len(part), batch_size)]
    draw.shuffle(batches)
    return batches
