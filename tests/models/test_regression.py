"""Two evaluations against each other: the interval, the changed questions, and baselines that don't fit."""

import json

import numpy as np
import pytest

from models import InputError
from models.question_answering.examples import Example
from models.question_answering.metrics import evaluate
from models.question_answering.regression import (
    SHOWN,
    compare,
    drop_interval,
    read_baseline,
    require_same_questions,
)

EXAMPLES = [
    Example(str(number), "", f"the river {number} flows", f"which river {number}?", ((f"river {number}", 4),))
    for number in range(30)
]
RIGHT = {example.id: example.answers[0][0] for example in EXAMPLES}


def report(path, answers: dict | None, **other) -> str:
    """A saved report with the true F1 of `answers`, and `other` fields in place of the true ones."""
    true = {"data": "a.json", **evaluate(EXAMPLES, RIGHT if answers is None else answers)}
    path.write_text(json.dumps({**true, **({} if answers is None else {"answers": answers}), **other}))
    return str(path)


def test_the_interval_is_that_of_resampled_pairs() -> None:
    random = np.random.default_rng(3)
    before = random.integers(0, 8, 400) / 7
    after = np.where(random.random(400) < 0.8, before, random.integers(0, 8, 400) / 7)
    drawn = random.integers(0, 400, (4000, 400))
    low, high = np.quantile(100 * (before - after)[drawn].mean(1), [0.025, 0.975])
    found = drop_interval(before, after)
    assert found == drop_interval(before, after)  # seeded
    assert found[0] < 100 * (before - after).mean() < found[1]
    assert np.allclose(found, (low, high), atol=0.1 * (high - low))


def test_nothing_changed_has_an_interval_of_no_width() -> None:
    assert drop_interval([0.5, 1.0, 0.0], [0.5, 1.0, 0.0]) == (0.0, 0.0)


def test_what_changed_most_comes_first_and_equal_answers_are_counted(tmp_path) -> None:
    ours = {**RIGHT, "3": "nonsense", "4": "river", "5": "the river 5"}
    for number in range(10, 20):
        ours[str(number)] = "nothing"
    baseline = read_baseline(report(tmp_path / "r.json", RIGHT))
    f1 = evaluate(EXAMPLES, ours)["f1"]
    found = compare(baseline, EXAMPLES, ours, f1)
    assert found.equal_answers == 30 - 13 and found.drop == pytest.approx(100 - f1)
    assert found.most_changed is not None and len(found.most_changed) == SHOWN
    first = found.most_changed[0]
    assert (first.id, first.before, first.after, first.gold) == ("3", "river 3", "nonsense", ("river 3",))
    assert (first.f1_before, first.f1_after) == (1.0, 0.0)
    assert {change.id for change in found.most_changed} < {"3", *map(str, range(10, 20))}
    assert found.interval is not None and found.interval[0] < found.drop < found.interval[1]


def test_of_equal_changes_the_losses_come_first(tmp_path) -> None:
    before = {**RIGHT, "1": "wrong"}
    baseline = read_baseline(report(tmp_path / "r.json", before))
    found = compare(baseline, EXAMPLES, {**RIGHT, "7": "wrong"}, 0.0)
    assert found.most_changed is not None and [change.id for change in found.most_changed] == ["7", "1"]


def test_a_report_without_answers_still_says_the_drop(tmp_path) -> None:
    baseline = read_baseline(report(tmp_path / "r.json", None))
    require_same_questions(baseline, "a.json", EXAMPLES)
    found = compare(baseline, EXAMPLES, RIGHT, 99.0)
    assert (found.drop, found.interval, found.equal_answers, found.most_changed) == (1.0, None, None, None)
    assert found.unpaired is not None and "no answers" in found.unpaired


@pytest.mark.parametrize("wrong", [{"f1": "good"}, {"f1": None}, {"total": "all"}, {"total": [3]}, {"total": 1e999},
                                   {"total": 1.5}, {"f1": float("nan")}, {"f1": 1e999}])  # fmt: skip
def test_what_is_no_report_is_said(tmp_path, wrong) -> None:
    with pytest.raises(InputError, match="is no report of eval"):
        read_baseline(report(tmp_path / "r.json", RIGHT, **wrong))


def test_same_questions_in_a_renamed_file_are_the_same(tmp_path) -> None:
    require_same_questions(read_baseline(report(tmp_path / "r.json", RIGHT)), "renamed.json", EXAMPLES)


@pytest.mark.parametrize(
    ("answers", "other", "asked", "said"),
    [
        pytest.param(RIGHT, {}, EXAMPLES[:20], "10 of its own are not asked", id="fewer questions"),
        pytest.param({"0": "river 0"}, {}, EXAMPLES, "29 of 30 are not in it", id="more questions"),
        pytest.param(RIGHT, {"f1": 90.0}, EXAMPLES, "says F1 90.000, its answers score 100.000", id="another score"),
        pytest.param(None, {"total": 29}, EXAMPLES, "of 29 questions", id="another count, no answers"),
        pytest.param(None, {"data": "b.json"}, EXAMPLES, "of b.json", id="another file, no answers"),
    ],
)
def test_a_baseline_of_other_questions_is_refused(tmp_path, answers, other, asked, said) -> None:
    baseline = read_baseline(report(tmp_path / "r.json", answers, **other))
    with pytest.raises(InputError, match=said) as raised:
        require_same_questions(baseline, "a.json", asked)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "{", "[" * 200_000, "9" * 5000, '{"f1": "x"}', '{"total": 1}',
             '{"f1": 1, "total": 1, "answers": [1]}', '{"f1": 1, "total": 1, "answers": {"a": 1}}',
             r'{"f1": 1, "total": 1, "answers": {"a": "\ud800"}}'],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_what_is_no_report_is_refused(tmp_path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.json"):
        read_baseline(str(path))
