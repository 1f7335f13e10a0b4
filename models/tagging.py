"""Logits of a token classifier into labelled pieces of a text."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from models.question_answering.features import Window

OUTSIDE = "O"
BEGIN, INSIDE = "B-", "I-"


@dataclass(frozen=True)
class Entity:
    """text: from start to end, characters of the whole text; label; score: the mean probability of its words."""

    text: str
    label: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Word:
    """A word by its characters, with the label and probability of its first token, as such models are trained."""

    start: int
    end: int
    label: str
    score: float


def words_of(text: str, window: Window, logits: Tensor, labels: Mapping[int, str]) -> list[Word]:
    """logits [tokens, C] → the words of the part of `text` that the window holds: tokens between which there is no
    space, and which are letters, their marks and digits, are one word, and so are those that share a character, of
    which a byte-level tokenizer gives each a part"""
    probability, best = logits.float().softmax(-1).max(-1)
    words: list[Word] = []
    for place, span in enumerate(window.offsets):
        start, end = _letters(text, span) if span else (0, 0)
        if start == end:
            continue
        if words and (start < words[-1].end or (start == words[-1].end and _joined(text, start))):
            words[-1] = replace(words[-1], end=max(end, words[-1].end))
        else:
            words.append(Word(start, end, labels[int(best[place])], float(probability[place])))
    return words


def entities_of(text: str, words: Sequence[Word]) -> list[Entity]:
    """Neighbouring words of one label as one piece, those labelled O left out: B-X begins a piece, I-X or a bare X goes
    on with one of X."""
    groups: list[list[Word]] = []
    for word in words:
        kind = _kind(word.label)
        goes_on = groups and not word.label.startswith(BEGIN) and _kind(groups[-1][-1].label) == kind
        if goes_on:
            groups[-1].append(word)
        else:
            groups.append([word])
    found = []
    for group in groups:
        start, end, kind = group[0].start, group[-1].end, _kind(group[0].label)
        if kind != OUTSIDE:
            found.append(Entity(text[start:end], kind, sum(w.score for w in group) / len(group), start, end))
    return found


def _joined(text: str, place: int) -> bool:
    """→ whether the characters before and at `place` are of one word"""
    return all(one.isalnum() or _is_mark(one) for one in text[place - 1 : place + 1])


def _is_mark(character: str) -> bool:
    """→ whether it is a part of the letter before it, as accents and the vowels of Hindi may be"""
    return unicodedata.category(character).startswith("M")


def _kind(label: str) -> str:
    return label.removeprefix(BEGIN).removeprefix(INSIDE)


def _letters(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """A token's characters without the space before them, which byte-level and SentencePiece tokenizers count to it,
    and with all marks of the last, which BERT's leaves out"""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    end = max(start, span[0] + len(piece.rstrip()))
    while start < end < len(text) and _is_mark(text[end]):
        end += 1
    return start, end
