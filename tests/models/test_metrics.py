"""Exact match and F1 against the published figures and the two official scripts' rules."""

import gzip
import json

import pytest

from models.question_answering.examples import Example, read_examples
from models.question_answering.metrics import evaluate, exact_match, f1, normalize
from tests.models.samples import SQUAD

PUBLISHED = {
    "1.1": {"exact_match": 86.2062, "f1": 92.1956, "total": 10570},
    "2.0": {
        "exact_match": 78.7417,
        "f1": 81.7753,
        "total": 11873,
        "HasAns_f1": 80.1818,
        "HasAns_total": 5928,
        "NoAns_exact_match": 83.3642,
        "NoAns_f1": 83.3642,
        "NoAns_total": 5945,
    },
}


def question(*answers: str, name: str = "q") -> Example:
    return Example(name, "", "", "", tuple((answer, 0) for answer in answers))


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_answers_get_their_published_figures(version: str) -> None:
    examples = read_examples(SQUAD / f"dev-v{version}.json.gz")
    predictions = json.loads(gzip.decompress((SQUAD / f"predictions-bert-large-v{version}.json.gz").read_bytes()))
    found = evaluate(examples, predictions)
    assert {key: round(found[key], 4) for key in PUBLISHED[version]} == PUBLISHED[version]
    assert ("HasAns_f1" in found) is (version == "2.0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat,\tsat!", "cat sat"),
        ("a an the", ""),
        ("theatre Another", "theatre another"),
        ("U.S.A.", "usa"),
        ("10,000", "10000"),
        ("1969–1972", "1969–1972"),  # only ASCII punctuation is taken out
        ("ÉTAT", "état"),
        ("the-end", "theend"),  # punctuation goes first: no article is left
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "word_f1"),
    [
        ("the Denver Broncos", "Denver Broncos!", 1.0, 1.0),
        ("Broncos", "Denver Broncos", 0.0, 2 / 3),
        ("Denver Denver", "Denver Broncos", 0.0, 0.5),
        ("Carolina", "Denver Broncos", 0.0, 0.0),
        ("", "Denver", 0.0, 0.0),
    ],
)
def test_one_answer(prediction: str, answer: str, em: float, word_f1: float) -> None:
    assert exact_match(prediction, answer) == em
    assert f1(prediction, answer) == pytest.approx(word_f1, abs=1e-12)


@pytest.mark.parametrize(
    ("answers", "prediction", "version_1", "version_2"),
    [
        # evaluate-v1.1.py keeps every reference answer, and no word in common is F1 = 0, also of two empty texts;
        # evaluate-v2.0.py leaves out answers without words, and two texts without words agree.
        (("The",), "", (100.0, 0.0), (100.0, 100.0)),
        (("The",), "a", (100.0, 0.0), (100.0, 100.0)),
        (("The", "cat"), "", (100.0, 0.0), (0.0, 0.0)),
        (("The", "cat"), "cat", (100.0, 100.0), (100.0, 100.0)),
        (("cat",), "", (0.0, 0.0), (0.0, 0.0)),
        (("cat",), "the", (0.0, 0.0), (0.0, 0.0)),
        (("cat", "a black cat"), "black cat", (100.0, 100.0), (100.0, 100.0)),
    ],
)
def test_the_scripts_differ_only_in_texts_without_words(
    answers: tuple[str, ...], prediction: str, version_1: tuple, version_2: tuple
) -> None:
    alone = evaluate([question(*answers)], {"q": prediction})
    assert (alone["exact_match"], alone["f1"]) == version_1
    # An unanswerable question beside it makes the set one of v2.0.
    both = evaluate([question(*answers), question(name="none")], {"q": prediction, "none": ""})
    assert (both["HasAns_exact_match"], both["HasAns_f1"]) == version_2
    assert (both["NoAns_exact_match"], both["NoAns_f1"]) == (100.0, 100.0)


@pytest.mark.parametrize(("prediction", "score"), [("", 100.0), ("the", 100.0), ("something", 0.0)])
def test_unanswerable_questions_want_no_words(prediction: str, score: float) -> None:
    found = evaluate([question()], {"q": prediction})
    assert (found["exact_match"], found["f1"]) == (score, score)
    assert (found["HasAns_total"], found["NoAns_total"]) == (0, 1)


def test_a_question_without_a_prediction_is_wrong() -> None:
    found = evaluate([question("cat"), question("dog", name="other")], {"q": "cat", "stranger": "dog"})
    assert found == {"exact_match": 50.0, "f1": 50.0, "total": 2}
    assert evaluate([question()], {})["NoAns_f1"] == 0.0
