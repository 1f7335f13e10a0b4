"""Logits of a classifier into labels with their probabilities."""

from typing import Any

from torch import Tensor

MULTI, REGRESSION = "multi_label_classification", "regression"


def labels_of(logits: Tensor, config: Any, top: int) -> dict[str, Any]:
    """logits [C] of one text → "label", "score" of the best, "candidates": the `top` best; "kind": what a score is

    "one": probabilities of labels that exclude each other; "any": each label's own, of a model for several at once;
    "value": the number that a model with a single output, or one for regression, gives. Which it is, the config says
    (problem_type), as transformers has it.
    """
    logits = logits.float()
    if config.problem_type == MULTI:
        kind, scores = "any", logits.sigmoid()
    elif config.problem_type == REGRESSION or len(logits) == 1:
        kind, scores = "value", logits
    else:
        kind, scores = "one", logits.softmax(-1)
    order = scores.argsort(descending=True, stable=True).tolist()[:top]
    candidates = [{"label": config.id2label[place], "score": float(scores[place])} for place in order]
    return {**candidates[0], "kind": kind, "candidates": candidates}
