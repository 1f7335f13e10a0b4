"""Questions through a model: the same answers whatever the batches are."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models import InputError
from models.question_answering.examples import Example
from models.question_answering.features import make_windows
from models.question_answering.predict import answer_texts, like_length_batches, predict
from models.question_answering.spans import Answer, Span
from tests.models.samples import KINDS, sample, tiny_bert, tokenizer

MAX_LENGTH, STRIDE = 140, 32


def fake(input_ids: Tensor, attention_mask: Tensor, **other: Tensor) -> SimpleNamespace:
    """Logits of each token by itself, on padding large ones that must not be looked at."""
    starts = ((input_ids * 7919) % 1009).float() / 100
    ends = ((input_ids * 104729) % 1013).float() / 100
    padding = attention_mask == 0
    return SimpleNamespace(start_logits=starts.masked_fill(padding, 1e6), end_logits=ends.masked_fill(padding, 1e6))


@pytest.mark.parametrize("batch_size", [1, 3, 16, 1000])
@pytest.mark.parametrize("lengths", [[], [5], [3, 9, 9, 1, 4, 9, 2, 8], list(range(100))], ids=len)
def test_batches_hold_each_index_once_and_lengths_that_are_alike(lengths: list[int], batch_size: int) -> None:
    batches = like_length_batches(lengths, batch_size)
    together = [index for batch in batches for index in batch]
    assert sorted(together) == list(range(len(lengths)))
    assert [lengths[index] for index in together] == sorted(lengths, reverse=True)
    assert all(len(batch) == batch_size for batch in batches[:-1]) and all(batches)


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_size_changes_nothing(kind: str) -> None:
    examples = sample()[::6]
    one, four, sixteen = (predict(fake, tokenizer(kind), examples, size, MAX_LENGTH, STRIDE) for size in (1, 4, 16))
    assert one == four == sixteen
    assert len(one) == len(examples)


def test_the_batch_size_changes_a_real_models_logits_by_rounding_alone() -> None:
    model, examples = tiny_bert(), sample()[::12]
    one, four, sixteen = (predict(model, tokenizer(), examples, size, MAX_LENGTH, STRIDE) for size in (1, 4, 16))
    assert answer_texts(examples, one) == answer_texts(examples, four) == answer_texts(examples, sixteen)
    for alone, other in [*zip(one, four, strict=True), *zip(one, sixteen, strict=True)]:
        assert other.null_logit == pytest.approx(alone.null_logit, abs=1e-5)
        assert [span.logit for span in other.spans] == pytest.approx([span.logit for span in alone.spans], abs=1e-5)


def test_each_answer_is_the_best_of_its_questions_windows() -> None:
    examples = sample()[::25]
    for example, answer in zip(examples, predict(fake, tokenizer(), examples, 4, MAX_LENGTH, STRIDE), strict=True):
        alone = predict(fake, tokenizer(), [example], 1, MAX_LENGTH, STRIDE)[0]
        assert answer == alone
        nulls = []
        for window in make_windows(tokenizer(), [example], MAX_LENGTH, STRIDE):
            output = fake(torch.tensor([window.input_ids]), torch.ones(1, len(window)))
            nulls.append((output.start_logits[0, 0] + output.end_logits[0, 0]).item())
        assert answer.null_logit == min(nulls)


def test_progress_counts_windows() -> None:
    told = []
    predict(fake, tokenizer(), sample()[:5], 2, MAX_LENGTH, STRIDE, lambda done, total: told.append((done, total)))
    total = len(make_windows(tokenizer(), sample()[:5], MAX_LENGTH, STRIDE))
    assert told == [(min(done, total), total) for done in range(2, total + 2, 2)]


def test_no_questions_have_no_answers() -> None:
    assert predict(fake, tokenizer(), []) == []


@pytest.mark.parametrize("context", ["", "  \n"])
def test_an_empty_passage_has_no_answer(context: str) -> None:
    examples = [Example("q", "", context, "Who?", ())]
    answers = predict(fake, tokenizer(), examples)
    assert answers[0].spans == ()
    assert answer_texts(examples, answers) == answer_texts(examples, answers, 0.0) == {"q": ""}


def test_logits_that_are_not_numbers_are_one_line() -> None:
    def broken(input_ids: Tensor, **other: Tensor) -> SimpleNamespace:
        logits = torch.full(input_ids.shape, torch.nan)
        return SimpleNamespace(start_logits=logits, end_logits=logits)

    with pytest.raises(InputError, match="NaN"):
        predict(broken, tokenizer(), sample()[:1])


def test_texts_of_answers() -> None:
    examples = [Example(name, "", "Curie was born in Warsaw.", "Where?", ()) for name in "ab"]
    answers = [Answer((Span(18, 24, 3.0), Span(0, 5, 1.0)), 4.0), Answer((), 0.0)]
    assert answer_texts(examples, answers) == {"a": "Warsaw", "b": ""}
    assert answer_texts(examples, answers, 0.0) == {"a": "", "b": ""}
    assert answer_texts(examples, answers, 1.0) == {"a": "Warsaw", "b": ""}


def test_two_questions_of_one_id_have_no_answers() -> None:
    examples = [Example("a", "", "Curie was born in Warsaw.", question, ()) for question in ("Where?", "Who?")]
    with pytest.raises(InputError, match="two questions have the id 'a'"):
        answer_texts(examples, [Answer((), 0.0)] * 2)
