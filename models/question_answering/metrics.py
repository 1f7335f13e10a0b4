"""Exact match and F1 as the official SQuAD evaluation scripts compute them.

v1.1: evaluate-v1.1.py of Rajpurkar et al. 2016; v2.0: evaluate-v2.0.py of Rajpurkar et al. 2018.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from models.question_answering.examples import Example

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 when both are the same after `normalize`, else 0.0."""
    return float(normalize(prediction) == normalize(answer))


def f1(prediction: str, answer: str) -> float:
    """Harmonic mean of the words' precision and recall, 0 to 1; two texts without words score 0 (v1.1's rule)."""
    predicted, wanted = normalize(prediction).split(), normalize(answer).split()
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def scores(example: Example, prediction: str, version_2: bool) -> tuple[float, float]:
    """Best (exact match, F1) of a prediction over the question's reference answers, each 0 to 1.

    The two scripts differ only in texts without words, such as "" and "The": v2.0 leaves such reference
    answers out, takes "" for an unanswerable question, and gives F1 = 1 where both texts are without words.
    """
    answers = [text for text, _ in example.answers]
    if version_2:
        answers = [text for text in answers if normalize(text)] or [""]
        if not normalize(prediction):
            both = float("" in answers)
            return both, both
    return (
        max((exact_match(prediction, answer) for answer in answers), default=0.0),
        max((f1(prediction, answer) for answer in answers), default=0.0),
    )


def evaluate(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """Means in percent over all questions: by v2.0's rules and with its split where some are unanswerable.

    Without unanswerable questions v1.1's rules hold. A question without a prediction counts as wrong, as
    the v1.1 script has it (v2.0's wants a prediction for each). Keys: exact_match, f1,
    total, and where there are unanswerable questions HasAns_* and NoAns_* of the same three.
    """
    groups: dict[str, list[tuple[float, float]]] = {"": [], "HasAns_": [], "NoAns_": []}
    version_2 = any(not example.answers for example in examples)
    for example in examples:
        found = predictions.get(example.id)
        score = (0.0, 0.0) if found is None else scores(example, found, version_2)
        groups[""].append(score)
        groups["HasAns_" if example.answers else "NoAns_"].append(score)
    shown = groups if version_2 else {"": groups[""]}
    result: dict[str, float] = {}
    for prefix, group in shown.items():
        count = len(group)
        result[f"{prefix}exact_match"] = 100.0 * sum(em for em, _ in group) / count if count else 0.0
        result[f"{prefix}f1"] = 100.0 * sum(word_f1 for _, word_f1 in group) / count if count else 0.0
        result[f"{prefix}total"] = count
    return result
