"""Text from outside this project, which may be anything: characters that are none."""

import re

from models.errors import InputError

HALF = re.compile("[\ud800-\udfff]")  # of a pair of surrogates, as JSON's \ud800 and bytes that are no UTF-8 make


def require_characters(text: str, what: str) -> None:
    """Raises InputError where `text` holds what no UTF-8 stands for: tokenizers and consoles take none of it."""
    half = HALF.search(text)
    if half:
        raise InputError(
            f"{what} holds {half.group()!r} at character {half.start()}, which is no character of UTF-8: take it out"
        )
