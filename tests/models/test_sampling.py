"""What a training run sees, and in which order."""

import pytest

from models.finetune.sampling import epoch_batches, training_windows, unanswerable
from models.question_answering.examples import Example
from tests.models.samples import sample, tokenizer


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 13, 300])
def test_an_epoch_is_a_permutation_in_batches(count: int, batch_size: int) -> None:
    lengths = [(7919 * index) % 97 for index in range(count)]
    batches = epoch_batches(lengths, batch_size, seed=3, epoch=1)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * (len(batches) - 1)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = [index % 40 for index in range(200)]
    orders = [epoch_batches(lengths, 8, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert orders == [epoch_batches(lengths, 8, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])
    # Written down once, so that a change that breaks the resume of older states does not pass unseen.
    assert epoch_batches([5, 3, 4, 1, 2, 6, 7], 2, seed=0, epoch=0) == [[6], [0, 5], [1, 2], [3, 4]]


def test_batches_are_of_like_length() -> None:
    lengths = [(7919 * index) % 300 for index in range(400)]
    batches = epoch_batches(lengths, 8, seed=0, epoch=0)
    spent = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    assert spent < 1.1 * sum(lengths)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_unanswerable_questions_never_hold_their_answers(share: float) -> None:
    found = unanswerable(sample(), share, seed=0)
    assert len(found) == round(share * len(sample()))
    assert found == unanswerable(sample(), share, seed=0)
    known = {example.id: example for example in sample()}
    passages = {example.context: example.title for example in sample()}
    for drawn in found:
        source = known[drawn.id.removesuffix("-none")]
        assert (drawn.question, drawn.title, drawn.answers) == (source.question, source.title, ())
        assert drawn.context != source.context and passages[drawn.context] == source.title
        assert not any(text.lower() in drawn.context.lower() for text, _ in source.answers)
    assert len({drawn.id for drawn in found}) == len(found)
    if found:
        assert found != unanswerable(sample(), share, seed=1)


def test_an_article_of_one_passage_gives_none() -> None:
    alone = [example for example in sample() if example.context == sample()[0].context]
    assert unanswerable(alone, 1.0, seed=0) == []


def test_questions_without_an_answer_are_not_drawn() -> None:
    drawn = {example.id.removesuffix("-none") for example in unanswerable(sample("2.0"), 1.0, seed=0)}
    assert drawn and all(example.answers for example in sample("2.0") if example.id in drawn)


def test_answers_that_differ_by_case_count() -> None:
    examples = [
        Example("1", "T", "WARSAW is a city.", "What?", (("WARSAW", 0),)),
        Example("2", "T", "He saw Warsaw.", "What?", (("Warsaw", 7),)),
    ]
    assert unanswerable(examples, 1.0, seed=0) == []


def test_windows_carry_the_place_of_the_first_answer() -> None:
    examples = [*sample()[:10], *unanswerable(sample(), 0.05, seed=0)]
    items = training_windows(tokenizer(), examples, 140, 32)
    held = set()
    for item in items:
        asked = examples[item.window.example]
        if not asked.answers:
            assert (item.start, item.end) == (0, 0)
        elif item.start:
            held.add(asked.id)
            offsets = item.window.offsets
            assert asked.answers[0][0] in asked.context[offsets[item.start][0] : offsets[item.end][1]]
    assert held == {example.id for example in sample()[:10]}
