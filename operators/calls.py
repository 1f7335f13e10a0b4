"""Operators one after the other as one: torch.ops.opswap.calls.

Between two operators of a graph lie Python and PyTorch's dispatcher. What they touch has left the caches of a core that
streamed weights in between, so that each costs tens of microseconds, which a single text waits for.

A text says what is called, a line each, words apart by one space:

    7                                       how many values there are: the inputs, the constants, the results
    linear_int8_rows 0 1 2 3 4 5 - -> 6     an operator, its arguments, its results
    drop 0                                  values that are not read any more
    return [6]                              what is given back

An argument is what the operator's schema wants there: the number of a value, "-" for none, a whole number or "$0" for
the first of `sizes`, a float, 0 or 1, a word; lists as [a,b]. The result of an operator that gives a list is [a,b], the
numbers of the first of them.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators.schema import OPERATORS, define

OP = "calls"
MOST_VALUES = 1 << 20
MOST = 1 << 63  # no whole number is as large
WHOLE = re.compile(r"-?\d{1,19}", re.ASCII)
REAL = re.compile(r"-?(\d+(\.\d*)?(e[+-]?\d+)?|inf|nan)", re.ASCII)
Values = list[Tensor | None]
By = Callable[[str, Callable[[], Any]], Any]


class Place(NamedTuple):
    """A value, or where `size`, one of the sizes."""

    number: int
    size: bool = False


class Step(NamedTuple):
    """A line: operator: None where it gives back `args`; args: its arguments, Places for what is known at the call
    only; named: those by name; results: the numbers of its results, a tuple for each list; drop: what is not read after
    it."""

    name: str
    operator: Any
    args: tuple[Any, ...]
    named: dict[str, Any]
    results: tuple[int | tuple[int, ...], ...]
    drop: tuple[int, ...]


def calls(inputs: list[Tensor], sizes: list[int], constants: list[Tensor], text: str) -> list[Tensor]:
    """inputs and constants: the first values; sizes: the whole numbers that are not known before → what `text` says

    What is given back must be results. Raises ValueError for a text that says nothing, and what the operators raise.
    """
    return run_each(inputs, sizes, constants, steps_of(text), lambda _, call: call())


def run_each(
    inputs: Sequence[Tensor], sizes: Sequence[int], constants: Sequence[Tensor], steps: Sequence[Step], by: By
) -> list[Tensor]:
    """`calls` of the text that `steps` are of, each operator through by(its name, what calls it), which returns what
    that does"""
    values: Values = [*inputs, *constants]
    missing = steps[0].results[0] - len(values)  # type: ignore[operator]
    if missing < 0:
        raise _refused(f"{len(values) + missing} values")
    values += [None] * missing
    for step in steps[1:-1]:
        args = [_given(one, values, sizes) for one in step.args]
        named = {name: _given(one, values, sizes) for name, one in step.named.items()}
        made = by(step.name, partial(step.operator, *args, **named)) if step.operator is not None else ()
        for places, result in zip(step.results, made if len(step.results) > 1 else [made], strict=False):
            if isinstance(places, tuple):
                if len(places) > len(result):
                    raise _refused(f"{len(places)} results")
                for place, one in zip(places, result, strict=False):
                    values[place] = one
            else:
                values[places] = result
        for place in step.drop:
            values[place] = None
    return [_given(one, values, sizes) for one in steps[-1].args]


def _given(one: Any, values: Values, sizes: Sequence[int]) -> Any:
    if isinstance(one, list):
        return [_given(each, values, sizes) for each in one]
    if not isinstance(one, Place):
        return one
    if one.size:
        if one.number >= len(sizes):
            raise _refused(f"${one.number}")
        return sizes[one.number]
    value = values[one.number]
    if value is None:
        raise _refused(str(one.number))
    return value


def steps_of(text: str) -> list[Step]:
    """→ how many values there are, as the first one's result, the lines, and what is given back. Raises ValueError."""
    first, *lines = text.split("\n")
    count = _number(first, MOST_VALUES)
    steps = [Step("values", None, (), {}, (count,), ())]
    for line in lines:
        name, *words = line.split(" ")
        if name == "return" and len(words) == 1:
            return [*steps, Step(name, None, tuple(_read("List[Tensor]", words[0], count)), {}, (), ())]
        if name == "drop" and words:
            steps.append(Step(name, None, (), {}, (), tuple(_number(word, count) for word in words)))
        elif name in OPERATORS:
            steps.append(_step(name, words, count))
        else:
            raise _refused(line)
    raise _refused("no return")


def _step(name: str, words: list[str], count: int) -> Step:
    operator = getattr(torch.ops.opswap, name).default
    arguments, returns = operator._schema.arguments, len(operator._schema.returns)
    fits = len(words) == len(arguments) + 1 + returns and words[len(arguments)] == "->"
    if not fits or operator._schema.is_mutable:
        raise _refused(" ".join([name, *words]))
    read = [(one, _read(str(one.type), word, count)) for one, word in zip(arguments, words, strict=False)]
    named = {one.name: value for one, value in read if one.kwarg_only}
    results: list[int | tuple[int, ...]] = []
    for made, word in zip(operator._schema.returns, words[-returns:], strict=True):
        several = str(made.type) == "List[Tensor]"
        results.append(tuple(_number(part, count) for part in _parts(word)) if several else _number(word, count))
    return Step(name, operator, tuple(value for one, value in read if not one.kwarg_only), named, tuple(results), ())


def _read(kind: str, word: str, count: int) -> Any:
    if kind.startswith("List["):
        return [_read(kind[5:-1], part, count) for part in _parts(word)]
    if kind == "Optional[Tensor]" and word == "-":
        return None
    if kind in ("Tensor", "Optional[Tensor]"):
        return Place(_number(word, count))
    if kind == "int" and word.startswith("$"):
        return Place(_number(word[1:], MOST_VALUES), size=True)
    if kind == "str" and word:
        return word
    if kind == "bool" and word in ("0", "1"):
        return word == "1"
    if kind == "float" and REAL.fullmatch(word):
        return float(word)
    if kind == "int" and WHOLE.fullmatch(word) and -MOST <= int(word) < MOST:
        return int(word)
    raise _refused(word)


def _parts(word: str) -> list[str]:
    if not (word.startswith("[") and word.endswith("]")) or len(word) < 2:
        raise _refused(word)
    return word[1:-1].split(",") if word != "[]" else []


def _number(word: str, below: int) -> int:
    if not WHOLE.fullmatch(word) or not 0 <= int(word) < below:
        raise _refused(word)
    return int(word)


def line_of(operator: Any, args: Sequence[Any], results: Sequence[Any]) -> str:
    """operator: an OpOverload of opswap; args: all that it takes, tensors by their numbers, sizes as "$0"; results:
    numbers, or a list of them for each list → its line"""
    types = [str(argument.type) for argument in operator._schema.arguments]
    words = [_word(kind, value) for kind, value in zip(types, args, strict=True)]
    return " ".join([operator._schema.name.partition("::")[2], *words, "->", *map(_listed, results)])


def _word(kind: str, value: Any) -> str:
    if value is None:
        return "-"
    return _listed(int(value) if kind in ("bool", "int") and isinstance(value, bool) else value)


def _listed(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _refused(word: str) -> ValueError:
    return ValueError(f'{OP}: text must be what lowering wrote; got "{word}" in it; lower the graph again')


define(OP, "(Tensor[] inputs, SymInt[] sizes, Tensor[] constants, str text) -> Tensor[]", calls, calls)
