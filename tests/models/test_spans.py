"""Span decoding against an independent double loop, ties and windows included."""

import math

import pytest
import torch

from models.question_answering.examples import Example
from models.question_answering.features import Window, make_windows
from models.question_answering.spans import BEST_PER_WINDOW, MAX_ANSWER_TOKENS, Answer, Span, merge, window_spans
from tests.models.samples import KINDS, tokenizer

QUESTION = 4  # tokens in front of the passage


def window(offsets: list[tuple[int, int]]) -> Window:
    length = QUESTION + len(offsets) + 1
    return Window(0, list(range(length)), None, [None] * QUESTION + offsets + [None])


def words(count: int) -> list[tuple[int, int]]:
    return [(6 * index, 6 * index + 5) for index in range(count)]


def by_loops(asked: Window, starts: torch.Tensor, ends: torch.Tensor, count: int) -> list[Span]:
    """Every allowed pair, in the order of first and last token; Python's sort keeps it where scores tie."""
    found = []
    for first, begin in enumerate(asked.offsets):
        for last, end in enumerate(asked.offsets):
            if begin is None or end is None or begin[0] == begin[1] or end[0] == end[1]:
                continue
            if first <= last < first + MAX_ANSWER_TOKENS:
                found.append(Span(begin[0], end[1], (starts[first] + ends[last]).item()))
    return sorted(found, key=lambda span: -span.logit)[:count]


LOGITS = {
    "random": lambda length, draw: torch.randn(2, length, generator=draw),
    "many ties": lambda length, draw: torch.randint(0, 3, (2, length), generator=draw).float(),
    "all equal": lambda length, draw: torch.zeros(2, length),
    "some minus infinity": lambda length, draw: torch.randn(2, length, generator=draw).where(
        torch.rand(2, length, generator=draw) < 0.3, torch.tensor(-math.inf)
    ),
}


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("length", [1, 2, 5, 31, 70])
@pytest.mark.parametrize("count", [1, BEST_PER_WINDOW, 10_000])
def test_the_best_spans_are_those_of_a_double_loop(logits: str, length: int, count: int) -> None:
    draw = torch.Generator().manual_seed(length)
    offsets = words(length)
    for lone in range(2, length - 1, 9):  # tokens without text of their own, inside the passage
        offsets[lone] = (offsets[lone][0], offsets[lone][0])
    asked = window(offsets)
    starts, ends = LOGITS[logits](len(asked), draw)
    assert window_spans(asked, starts, ends, count) == by_loops(asked, starts, ends, count)


def test_half_precision_logits_are_added_in_float32() -> None:
    asked = window(words(3))
    starts, ends = torch.full((len(asked),), 2048.0, dtype=torch.bfloat16), torch.arange(len(asked)).bfloat16()
    assert window_spans(asked, starts, ends)[0] == Span(0, 17, 2048.0 + QUESTION + 2)


def test_an_answer_has_at_most_30_tokens() -> None:
    asked = window(words(60))
    starts, ends = torch.zeros(len(asked)), torch.zeros(len(asked))
    starts[QUESTION], ends[QUESTION + 30], ends[QUESTION + 29] = 10.0, 9.0, 8.0
    best = window_spans(asked, starts, ends)[0]
    assert (best.start, best.end) == (0, words(60)[29][1])


def test_a_span_never_begins_or_ends_outside_the_passage() -> None:
    asked = window(words(2))
    starts = ends = torch.tensor([100.0] * QUESTION + [0.0, 0.0] + [100.0])
    spans = {(span.start, span.end) for span in window_spans(asked, starts, ends)}
    assert spans == {(0, 5), (0, 11), (6, 11)}


@pytest.mark.parametrize("offsets", [[], [(0, 0)], [(3, 3), (4, 4)]])
def test_a_passage_without_text_has_no_spans(offsets: list) -> None:
    asked = window(offsets)
    assert window_spans(asked, torch.zeros(len(asked)), torch.zeros(len(asked))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_answers_have_no_spaces_around_them(kind: str) -> None:
    context = "  Curie  was born\nin   Warsaw , Poland — in 1867 .  "
    asked = make_windows(tokenizer(kind), [Example("q", "", context, "Where?", ())])[0]
    spans = window_spans(asked, torch.zeros(len(asked)), torch.zeros(len(asked)), 10_000)
    texts = {context[span.start : span.end] for span in spans}
    assert {text for text in texts if text != text.strip() or not text} == set()
    assert {"Curie", "Warsaw", "Curie  was born"} <= texts


def test_windows_are_merged() -> None:
    one = ([Span(0, 5, 1.0), Span(6, 11, 3.0)], 0.5)
    two = ([Span(6, 11, 2.0), Span(12, 17, 3.0), Span(0, 3, 3.0)], -0.5)
    merged = Answer((Span(0, 3, 3.0), Span(6, 11, 3.0), Span(12, 17, 3.0), Span(0, 5, 1.0)), -0.5)
    assert merge([one, two]) == merge([two, one]) == merged
    assert merge([one, two], count=2).spans == merged.spans[:2]


def test_without_windows_or_spans_there_is_no_answer() -> None:
    assert merge([]) == Answer((), math.inf)
    assert Answer((), 1.0).is_null(1000.0)
    assert Answer((), 1.0).probabilities == ()


@pytest.mark.parametrize(
    ("null", "threshold", "wins"),
    [(2.0, 0.0, True), (1.0, 0.0, False), (2.0, 1.0, False), (2.0, 0.99, True), (0.0, -1.0, False), (0.1, -1.0, True)],
)
def test_the_null_answer_wins_above_the_threshold(null: float, threshold: float, wins: bool) -> None:
    assert Answer((Span(0, 1, 1.0),), null).is_null(threshold) is wins


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_probabilities_are_a_softmax_with_the_null_answer(scale: float) -> None:
    logits = [scale * value for value in (2.0, 1.5, -1.0)]
    answer = Answer(tuple(Span(index, index + 1, logit) for index, logit in enumerate(logits)), scale * 0.5)
    weights = [math.exp(logit - logits[0]) for logit in [*logits, answer.null_logit]]
    expected = [weight / sum(weights) for weight in weights]
    assert answer.probabilities == pytest.approx(expected[:-1], abs=1e-12)
    assert sum(answer.probabilities) <= 1.0
    assert 1.0 - sum(answer.probabilities) == pytest.approx(expected[-1], abs=1e-12)
