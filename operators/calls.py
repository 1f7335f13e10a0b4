"""Operators one after the other as one: torch.ops.opswap.calls.

Between two operators of a graph lie Python and PyTorch's dispatcher. What they touch has left the caches of a core that
streamed weights in between, so that each costs tens of microseconds, which a single text waits for.

A text says what is called, a line each, words apart by one space:

    6                           how many values there are: the inputs, the constants, the results
    linear_int8_rows 0 1 2 3 4 5 - -> 6     an operator, its arguments, its results
    drop 6                      values that are not read any more
    return [6]                  what is given back

An argument is what the operator's schema wants there: the number of a value, "-" for none, a whole number or "$0" for
the first of `sizes`, a float, 0 or 1, a word; lists as [a,b]. The result of an operator that gives a list is [a,b], the
numbers of the first of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from operators.schema import OPERATORS, define

OP = "calls"
MOST_VALUES = 1 << 20
READERS: dict[str, Callable[[str], Any]] = {
    "Optional[Tensor]": lambda word: None,
    "int": int,
    "float": float,
    "bool": lambda word: bool(int(word)),
    "str": str,
}
Values = list[Tensor | None]
By = Callable[[str, Callable[[], Any]], Any]


def calls(inputs: list[Tensor], sizes: list[int], constants: list[Tensor], text: str) -> list[Tensor]:
    """inputs and constants: the first values; sizes: the whole numbers that are not known before → what `text` says

    Raises ValueError for a text that `line_of` and its callers did not write, and what the operators raise.
    """
    return run_each(inputs, sizes, constants, text, lambda _, call: call())


def run_each(inputs: list[Tensor], sizes: list[int], constants: list[Tensor], text: str, by: By) -> list[Tensor]:
    """`calls`, each operator through by(its name, what calls it), which returns what that does"""
    first, *lines = text.split("\n")
    values: Values = [*inputs, *constants]
    missing = _number(first, MOST_VALUES) - len(values)
    if missing < 0:
        raise _refused(first)
    values += [None] * missing
    for line in lines:
        name, *words = line.split(" ")
        if name == "return" and len(words) == 1:
            return [_value(word, values) for word in _parts_of_list(words[0])]
        if name == "drop":
            for word in words:
                values[_number(word, len(values))] = None
        elif name in OPERATORS:
            _call(name, words, values, sizes, by)
        else:
            raise _refused(line)
    raise _refused("no return")


def _call(name: str, words: list[str], values: Values, sizes: list[int], by: By) -> None:
    operator = getattr(torch.ops.opswap, name).default
    types = [str(argument.type) for argument in operator._schema.arguments]
    returns = len(operator._schema.returns)
    if len(words) != len(types) + 1 + returns or words[len(types)] != "->":
        raise _refused(" ".join([name, *words]))
    args = [_argument(kind, word, values, sizes) for kind, word in zip(types, words, strict=False)]
    made = by(name, partial(operator, *args))
    for word, result in zip(words[-returns:], made if returns > 1 else [made], strict=True):
        parts = _parts_of_list(word) if isinstance(result, list) else [word]
        for part, tensor in zip(parts, result if isinstance(result, list) else [result], strict=False):
            values[_number(part, len(values))] = tensor


def line_of(operator: Any, args: list[Any], results: list[Any]) -> str:
    """operator: an OpOverload of opswap; args: all that it takes, tensors by their numbers, sizes as "$0"; results:
    numbers, or a list of them for each list → its line"""
    types = [str(argument.type) for argument in operator._schema.arguments]
    words = [_word(kind, value) for kind, value in zip(types, args, strict=True)]
    return " ".join([operator._schema.name.partition("::")[2], *words, "->", *map(_listed, results)])


def _word(kind: str, value: Any) -> str:
    if value is None:
        return "-"
    if kind == "bool":
        return str(int(value))
    return _listed(value)


def _listed(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _argument(kind: str, word: str, values: Values, sizes: list[int]) -> Any:
    if kind.startswith("List["):
        return [_argument(kind[5:-1], part, values, sizes) for part in _parts_of_list(word)]
    if kind == "Tensor" or (kind == "Optional[Tensor]" and word != "-"):
        return _value(word, values)
    if kind == "int" and word.startswith("$"):
        return sizes[_number(word[1:], len(sizes))]
    try:
        return READERS[kind](word)
    except ValueError:
        raise _refused(word) from None


def _parts_of_list(word: str) -> list[str]:
    if not (word.startswith("[") and word.endswith("]")):
        raise _refused(word)
    return word[1:-1].split(",") if word != "[]" else []


def _value(word: str, values: Values) -> Tensor:
    value = values[_number(word, len(values))]
    if value is None:
        raise _refused(word)
    return value


def _number(word: str, below: int) -> int:
    if not word.isdecimal() or int(word) >= below:
        raise _refused(word)
    return int(word)


def _refused(word: str) -> ValueError:
    return ValueError(f'{OP}: text must be what lowering wrote; got "{word}" in it; lower the graph again')


define(OP, "(Tensor[] inputs, SymInt[] sizes, Tensor[] constants, str text) -> Tensor[]", calls, calls)
