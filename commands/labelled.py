"""What `classify` and `tag` share: texts through a model, and what each one's logits say of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from commands.graph import Ready
from models.question_answering.features import Window
from models.texts import longest_row, text_windows, through


def labelled(
    ready: Ready, given: Sequence[str], batch_size: int, max_length: int | None,
    labels_of: Callable[[str, Window, Tensor], dict[str, Any]], seconds: Sequence[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """labels_of: a text, its window and its logits [classes], or [tokens, classes] with the padding → what is said of
    it; seconds: as text_windows takes them → the JSON of the command. Raises InputError."""
    length = longest_row(ready.tokenizer, ready.config, max_length)
    windows, cut = text_windows(ready.tokenizer, given, length, seconds)
    found: dict[int, dict[str, Any]] = {}
    begun = time.perf_counter()
    for places, _, output in through(ready.graph, ready.tokenizer.pad_token_id, windows, batch_size):
        for place, logits in zip(places, output.logits, strict=True):
            said = labels_of(given[place], windows[place], logits)
            pair = {"second": seconds[place]} if seconds else {}
            found[place] = {"text": given[place], **pair, "truncated": cut[place], **said}
    return {
        **ready.header,
        "max_length": length,
        "texts": [found[place] for place in range(len(given))],
        "seconds": round(time.perf_counter() - begun, 4),
    }
