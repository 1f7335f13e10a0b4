"""Start and end logits turned into pieces of the passage."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.question_answering.features import Window

MAX_ANSWER_TOKENS = 30  # as BERT's own run_squad.py has it
BEST_PER_WINDOW = 20


@dataclass(frozen=True)
class Span:
    """A piece of the passage, characters [start, end), with start logit + end logit as its score."""

    start: int
    end: int
    logit: float


@dataclass(frozen=True)
class Answer:
    """What was found for one question: the best distinct spans, best first, and the null answer's logit.

    `null_logit` is the lowest over the windows, as the official v2.0 baseline takes it.
    """

    spans: tuple[Span, ...]
    null_logit: float

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Softmax over the spans and the null answer; one value a span, in the spans' order."""
        logits = torch.tensor([span.logit for span in self.spans] + [self.null_logit], dtype=torch.float64)
        return tuple(logits.softmax(0)[:-1].tolist())

    def is_null(self, threshold: float) -> bool:
        """Whether the null answer beats the best span by more than `threshold` (in logits)."""
        return not self.spans or self.null_logit - self.spans[0].logit > threshold


def window_spans(window: Window, start_logits: Tensor, end_logits: Tensor, count: int = BEST_PER_WINDOW) -> list[Span]:
    """The `count` best spans of at most MAX_ANSWER_TOKENS tokens inside the passage; logits are [length].

    Best first; ties go to the earlier span, by first and then by last token.
    """
    passage = [token for token, span in enumerate(window.offsets) if span is not None and span[1] > span[0]]
    if not passage:
        return []
    # Tokens between them without text of their own, such as a lone space, neither begin nor end a span.
    tokens = torch.tensor(passage)
    table = start_logits[tokens].float()[:, None] + end_logits[tokens].float()[None, :]
    steps = tokens[None, :] - tokens[:, None]
    allowed = (steps >= 0) & (steps < MAX_ANSWER_TOKENS)
    flat = table.masked_fill(~allowed, float("-inf")).flatten()
    least = flat.topk(min(count, int(allowed.sum()))).values[-1]
    # topk picks any of those that tie for the last place: take them all and let a stable sort decide.
    candidates = ((flat >= least) & allowed.flatten()).nonzero().flatten()
    best = candidates[flat[candidates].sort(descending=True, stable=True).indices[:count]]
    spans = []
    for logit, position in zip(flat[best].tolist(), best.tolist(), strict=True):
        start, end = window.offsets[passage[position // len(passage)]], window.offsets[passage[position % len(passage)]]
        if start is not None and end is not None:
            spans.append(Span(start[0], end[1], logit))
    return spans


def merge(found: list[tuple[list[Span], float]], count: int = BEST_PER_WINDOW) -> Answer:
    """One question's windows, each (spans, null logit), into its answer; a span seen twice counts once.

    Ties go to the earlier span, so that the order of the windows does not matter.
    """
    best: dict[tuple[int, int], float] = {}
    for spans, _ in found:
        for span in spans:
            place = (span.start, span.end)
            best[place] = max(best.get(place, float("-inf")), span.logit)
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return Answer(
        tuple(Span(start, end, logit) for (start, end), logit in ordered[:count]),
        min((null for _, null in found), default=float("inf")),
    )
