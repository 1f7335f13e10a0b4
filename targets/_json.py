"""JSON from outside this project, which may be anything."""

import json
from typing import Any


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
