"""Windows of token ids: offsets, overlap, coverage, and the places of answers."""

import copy
import logging

import pytest
import torch

from models import InputError
from models.question_answering.examples import Example
from models.question_answering.features import (
    MAX_QUESTION_TOKENS,
    Window,
    answer_positions,
    collate,
    cut_questions,
    make_windows,
)
from models.question_answering.metrics import normalize
from tests.models.samples import KINDS, sample, tokenizer

# A window of 140 tokens with 32 in common: most passages of the sample need several.
MAX_LENGTH, STRIDE = 140, 32


def passage_tokens(window: Window) -> list[int]:
    return [index for index, span in enumerate(window.offsets) if span is not None]


def example(context: str, question: str = "Who?", *answers: tuple[str, int]) -> Example:
    return Example("q", "", context, question, answers)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_give_back_the_text(kind: str) -> None:
    split = tokenizer(kind)
    for window in make_windows(split, sample(), MAX_LENGTH, STRIDE)[::7]:
        context = sample()[window.example].context
        for index in passage_tokens(window):
            start, end = window.offsets[index]
            assert 0 <= start <= end <= len(context)
            piece = context[start:end]
            assert piece == piece.strip()
            token = split.convert_ids_to_tokens(window.input_ids[index])
            if kind == "wordpiece" and piece.isascii():
                assert token in ("[UNK]", piece.lower(), "##" + piece.lower())
            if kind != "wordpiece" and piece.isascii() and piece:
                assert token.lstrip("Ġ▁") in (piece, "<unk>")


@pytest.mark.parametrize("kind", KINDS)
def test_windows_overlap_by_the_stride_and_cover_every_token(kind: str) -> None:
    split = tokenizer(kind)
    examples = sample()[::10]
    windows = make_windows(split, examples, MAX_LENGTH, STRIDE)
    assert len(windows) > len(examples)
    for number, found in enumerate(examples):
        parts = [window for window in windows if window.example == number]
        ids = [[window.input_ids[index] for index in passage_tokens(window)] for window in parts]
        together = ids[0]
        for part in ids[1:]:
            assert together[-STRIDE:] == part[:STRIDE]
            together = together + part[STRIDE:]
        assert together == split(found.context, add_special_tokens=False)["input_ids"]
        assert all(len(window) == MAX_LENGTH for window in parts[:-1]) and len(parts[-1]) <= MAX_LENGTH


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_places_of_answers_round_trip(kind: str, version: str) -> None:
    examples = sample(version)
    windows = make_windows(tokenizer(kind), examples, MAX_LENGTH, STRIDE)
    found = set()
    for window in windows:
        asked = examples[window.example]
        covered = [window.offsets[index] for index in passage_tokens(window)]
        for text, start in asked.answers:
            first, last = answer_positions(window, (text, start))
            inside = covered[0][0] <= start and start + len(text) <= covered[-1][1]
            assert (first > 0) is inside, (text, covered[0], covered[-1])
            if not inside:
                assert (first, last) == (0, 0)
                continue
            found.add((asked.id, text))
            decoded = asked.context[window.offsets[first][0] : window.offsets[last][1]]
            assert text in decoded
            # The fewest tokens that hold it: without the first or the last one a part is missing.
            assert window.offsets[first][1] > start and window.offsets[last][0] < start + len(text)
            if kind == "wordpiece":
                read = tokenizer().decode(window.input_ids[first : last + 1])
                plain = tokenizer().backend_tokenizer.normalizer.normalize_str(text)  # without accents
                assert normalize(plain).replace(" ", "") in normalize(read).replace(" ", "")
    assert found == {(asked.id, text) for asked in examples for text, _ in asked.answers}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [("in Warsaw", 15), (" in Warsaw ", 14), ("Warsaw ", 18)])
def test_spaces_around_an_answer_do_not_hide_it(kind: str, answer: tuple[str, int]) -> None:
    context = "Curie was born in Warsaw in 1867."
    assert context[answer[1] :].startswith(answer[0])
    window = make_windows(tokenizer(kind), [example(context)])[0]
    first, last = answer_positions(window, answer)
    assert context[window.offsets[first][0] : window.offsets[last][1]] == answer[0].strip()


def test_no_answer_is_at_the_first_token() -> None:
    window = make_windows(tokenizer(), [example("Curie was born in Warsaw.")])[0]
    assert answer_positions(window, None) == (0, 0)
    assert answer_positions(window, ("Warsaw", 1000)) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_long_questions_are_cut(kind: str) -> None:
    question = " ".join(f"word{number}" for number in range(200))
    windows = make_windows(tokenizer(kind), [example("Curie was born in Warsaw. " * 40, question)], 110, 32)
    asked = tokenizer(kind)(question, add_special_tokens=False)["input_ids"][:MAX_QUESTION_TOKENS]
    for window in windows:
        begin = window.input_ids.index(asked[0])
        assert window.input_ids[begin : begin + MAX_QUESTION_TOKENS] == asked
        assert len(window) <= 110
    assert len(windows) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_which_questions_are_cut(kind: str) -> None:
    """Those alone of which the windows hold less; spaces around one are none of it."""
    split = tokenizer(kind)
    questions = ["Who? " * count for count in range(15, 40)] + ["  ", "Who?" + " " * 100]
    lengths = [len(split(question.strip(), add_special_tokens=False)["input_ids"]) for question in questions]
    found = cut_questions(split, [example("Curie.", question) for question in questions])
    assert found == {place: length for place, length in enumerate(lengths) if length > MAX_QUESTION_TOKENS}
    assert 0 < len(found) < 25 and cut_questions(split, []) == {}


def test_a_long_question_is_cut_without_a_warning_of_errors_to_come(caplog: pytest.LogCaptureFixture) -> None:
    split = copy.deepcopy(tokenizer())
    split.model_max_length = 100
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        assert make_windows(split, [example("Curie was born in Warsaw.", "word " * 200)], 110, 32)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not caplog.messages


def test_the_smallest_window() -> None:
    examples = [example("Curie was born in Warsaw. " * 20, "word " * 200)]
    least = MAX_QUESTION_TOKENS + 3 + 32 + 1
    assert make_windows(tokenizer(), examples, least, 32)
    with pytest.raises(InputError, match=f"at least {least} are wanted: make the windows longer"):
        make_windows(tokenizer(), examples, least - 1, 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", ["", " ", "\n\t"])
def test_an_empty_passage_has_one_window_without_text(kind: str, context: str) -> None:
    windows = make_windows(tokenizer(kind), [example(context)])
    assert len(windows) == 1
    assert all(span is None or span[0] == span[1] for span in windows[0].offsets)


def test_no_questions_have_no_windows() -> None:
    assert make_windows(tokenizer(), []) == []


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
@pytest.mark.parametrize("pad_to", [None, 64])
def test_collate_pads_to_the_longest(kind: str, pad_to: int | None) -> None:
    split = tokenizer(kind)
    windows = make_windows(split, [example("Curie was born."), example("She was born in Warsaw in 1867.")])
    batch = collate(windows, split.pad_token_id, pad_to)
    length = pad_to or len(windows[1])
    assert set(batch) == {"input_ids", "attention_mask"} | ({"token_type_ids"} if kind == "wordpiece" else set())
    for tensor in batch.values():
        assert tensor.dtype == torch.int64 and tensor.shape == (2, length)
    for row, window in enumerate(windows):
        assert batch["input_ids"][row].tolist() == window.input_ids + [split.pad_token_id] * (length - len(window))
        assert batch["attention_mask"][row].tolist() == [1] * len(window) + [0] * (length - len(window))
    if kind == "wordpiece":
        second = windows[0].input_ids.index(split.sep_token_id) + 1
        types = [0] * second + [1] * (len(windows[0]) - second) + [0] * (length - len(windows[0]))
        assert batch["token_type_ids"][0].tolist() == types
