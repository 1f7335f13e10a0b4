"""Text from outside this project, which may be anything: JSON, and characters that are none."""

import json
import re
from typing import Any

from models.errors import InputError

HALF = re.compile("[\ud800-\udfff]")  # of a pair of surrogates, as JSON's \ud800 and bytes that are no UTF-8 make


def parse_json(text: str) -> Any:
    """json.loads, of which JSONDecodeError is the only error: it may run out of stack, or find a number too long."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", text, 0) from error
    except ValueError as error:
        raise json.JSONDecodeError(str(error), text, 0) from error


def require_characters(text: str, what: str) -> None:
    """Raises InputError where `text` holds what no UTF-8 stands for: tokenizers and consoles take none of it."""
    half = HALF.search(text)
    if half:
        raise InputError(
            f"{what} holds {half.group()!r} at character {half.start()}, which is no character of UTF-8: take it out"
        )
