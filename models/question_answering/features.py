"""Questions and passages turned into windows of token ids that fit the model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.question_answering.examples import Example

STRIDE = 128  # run_squad.py's
MAX_QUESTION_TOKENS = 64  # as BERT's own run_squad.py cuts questions


@dataclass(frozen=True)
class Window:
    """One stretch of a passage with its question in front, as the model reads it.

    `offsets[i]` is the (first, past-last) character in the passage that token i covers, without spaces
    around it, or None for the question and the special tokens. `token_type_ids` is None where the tokenizer makes none.
    """

    example: int
    input_ids: list[int]
    token_type_ids: list[int] | None
    offsets: list[tuple[int, int] | None]

    def __len__(self) -> int:
        return len(self.input_ids)


def stride_of(max_length: int, wanted: int | None = None) -> int:
    """→ `wanted`, or without a wish STRIDE tokens, a third of a window where that is less"""
    return min(STRIDE, max_length // 3) if wanted is None else wanted


def make_windows(
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    max_length: int = 384,
    stride: int | None = None,
) -> list[Window]:
    """Windows of at most `max_length` tokens, consecutive ones overlapping by `stride` passage tokens: without a wish
    by 128, or a third of `max_length` where that is less.

    Raises InputError when `max_length` leaves no room for the passage.
    """
    stride = stride_of(max_length, stride)
    room = max_length - MAX_QUESTION_TOKENS - tokenizer.num_special_tokens_to_add(pair=True)
    if room <= stride:
        least = MAX_QUESTION_TOKENS + tokenizer.num_special_tokens_to_add(pair=True) + stride + 1
        raise InputError(
            f"windows of {max_length} tokens can't overlap by {stride}, for that at least {least} are wanted: "
            "make the windows longer, or overlap less"
        )
    if not examples:
        return []
    encoded = tokenizer(
        _shortened(tokenizer, [example.question.strip() for example in examples]),
        [example.context for example in examples],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=False,
    )
    types = encoded.get("token_type_ids")
    windows = []
    for row, example in enumerate(encoded["overflow_to_sample_mapping"]):
        parts = encoded.sequence_ids(row)
        spans = encoded["offset_mapping"][row]
        context = examples[example].context
        offsets = [
            _without_spaces(context, *span) if part == 1 else None for part, span in zip(parts, spans, strict=True)
        ]
        windows.append(Window(example, encoded["input_ids"][row], types[row] if types else None, offsets))
    return windows


def _without_spaces(context: str, start: int, end: int) -> tuple[int, int]:
    """Byte-level and SentencePiece tokenizers count the space before a word to its token."""
    piece = context[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def cut_questions(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> dict[int, int]:
    """→ the questions, by place, of which windows hold the first MAX_QUESTION_TOKENS tokens, and how many they have"""
    parts = _tokens(tokenizer, [example.question.strip() for example in examples])
    return {place: len(spans) for place, spans in enumerate(parts) if len(spans) > MAX_QUESTION_TOKENS}


def _shortened(tokenizer: PreTrainedTokenizerFast, questions: list[str]) -> list[str]:
    """Questions cut after MAX_QUESTION_TOKENS tokens, at a token's end."""
    return [
        question if len(spans) <= MAX_QUESTION_TOKENS else question[: spans[MAX_QUESTION_TOKENS - 1][1]]
        for question, spans in zip(questions, _tokens(tokenizer, questions), strict=True)
    ]


def _tokens(tokenizer: PreTrainedTokenizerFast, questions: list[str]) -> list[list[tuple[int, int]]]:
    """→ (first, past-last) character of each question's tokens"""
    if not questions:  # which a tokenizer doesn't take
        return []
    # verbose: it would warn of more tokens than the model reads, which none of these will be
    return tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]


def answer_positions(window: Window, answer: tuple[str, int] | None) -> tuple[int, int]:
    """First and last token of the answer in this window; (0, 0), the [CLS] token, where it isn't inside."""
    if answer is None:
        return 0, 0
    text = answer[0].strip()
    first_character = answer[1] + answer[0].find(text)
    past_last = first_character + len(text)
    inside = [
        token
        for token, span in enumerate(window.offsets)
        if span is not None and span[0] < past_last and span[1] > first_character
    ]
    if not inside:
        return 0, 0
    first, last = window.offsets[inside[0]], window.offsets[inside[-1]]
    whole = first is not None and last is not None and first[0] <= first_character and last[1] >= past_last
    return (inside[0], inside[-1]) if whole else (0, 0)


def collate(windows: Sequence[Window], pad_token_id: int, pad_to: int | None = None) -> dict[str, Tensor]:
    """Padded int64 tensors [batch, longest window or `pad_to`]: input_ids, attention_mask[, token_type_ids]."""
    length = pad_to or max(len(window) for window in windows)
    input_ids = torch.full((len(windows), length), pad_token_id)
    batch = {"input_ids": input_ids, "attention_mask": torch.zeros_like(input_ids)}
    if windows[0].token_type_ids is not None:
        batch["token_type_ids"] = torch.zeros_like(input_ids)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = torch.tensor(window.input_ids)
        batch["attention_mask"][row, : len(window)] = 1
        if window.token_type_ids is not None:
            batch["token_type_ids"][row, : len(window)] = torch.tensor(window.token_type_ids)
    return batch
