"""Texts as the rows of token ids that a model reads, and any rows through it in batches of like length."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.numbers import require_numbers
from models.question_answering.features import Window, collate
from models.question_answering.predict import like_length_batches

# of these, by model type, the positions of tokens begin behind the padding index
BEHIND_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip


def text_windows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    max_length: int,
    seconds: Sequence[str] | None = None,
) -> tuple[list[Window], list[bool]]:
    """→ a window for each text, special tokens included, and whether it was cut after `max_length` tokens

    seconds: the second text of each row, for models that read pairs. offsets are characters of the first text.
    Raises InputError for a text that is empty, or where `max_length` leaves no room.
    """
    for text in (*texts, *(seconds or ())):
        if not text.strip():
            raise InputError("a text is empty: give one with at least a word")
    least = tokenizer.num_special_tokens_to_add(pair=seconds is not None) + 1 + (seconds is not None)
    if max_length < least:
        raise InputError(f"rows of {max_length} tokens leave no room for text: wanted at least {least}")
    encoded = tokenizer(
        list(texts),
        None if seconds is None else list(seconds),
        truncation="longest_first",
        max_length=max_length,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=False,
    )
    types = encoded.get("token_type_ids")
    windows: list[Window] = []
    cut = [False] * len(texts)
    for row, text in enumerate(encoded["overflow_to_sample_mapping"]):
        if text < len(windows):  # what did not fit comes as more rows of the same text
            cut[text] = True
            continue
        parts, spans = encoded.sequence_ids(row), encoded["offset_mapping"][row]
        offsets = [span if part == 0 else None for part, span in zip(parts, spans, strict=True)]
        windows.append(Window(text, encoded["input_ids"][row], types[row] if types else None, offsets))
    empty = next((window.example for window in windows if not window.input_ids), None)
    if empty is not None:
        raise InputError(f"the tokenizer makes no token of {texts[empty]!r}: give a text with at least a word")
    return windows, cut


def longest_row(tokenizer: PreTrainedTokenizerFast, config: Any, wanted: int | None = None, usual: int = 384) -> int:
    """→ `wanted` tokens, or without a wish the `usual` number where the model has as many positions

    Raises InputError where it has fewer than are wanted.
    """
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    padding = getattr(config, "pad_token_id", None) or 0
    if positions and getattr(config, "model_type", "") in BEHIND_PADDING:
        positions -= padding + 1
    most = min(positions or tokenizer.model_max_length, tokenizer.model_max_length)
    if wanted is not None and wanted > most:
        raise InputError(f"the model reads at most {most} tokens, {wanted} wanted: lower --max-length")
    return wanted or min(usual, most)


@torch.inference_mode()
def through(
    model: Callable[..., Any], pad: int, windows: Sequence[Window], batch_size: int
) -> Iterator[tuple[list[int], dict[str, Tensor], Any]]:
    """Calls the model with every window, longest first: → the windows' places, the batch and the model's output.

    Raises InputError when that has a NaN.
    """
    for places in like_length_batches([len(window) for window in windows], batch_size):
        batch = collate([windows[place] for place in places], pad)
        output = model(**batch)
        require_numbers(*(value for value in output.values() if isinstance(value, Tensor)))
        yield places, batch, output
