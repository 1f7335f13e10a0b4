"""A recipe as YAML: what `--recipe` reads and `sensitivity` writes.

The keys are the fields of Recipe, and of Rule under `rules`; what is left out has its default, but precision is int.
"""

import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from types import UnionType
from typing import Any

import yaml

from targets.base import UsageError
from toolkit.recipe import Recipe

WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", tuple: "a list"}


def parse(text: str, where: str, given: Mapping[str, Any] | None = None) -> Recipe:
    """text: YAML; where: what the errors call it; given: fields that win over the text's.

    Raises UsageError, one line, for what is no YAML, an unknown or repeated key, a value of the wrong type, and
    whatever Recipe itself refuses.
    """
    try:
        _refuse_repeated(yaml.compose(text, yaml.SafeLoader), where)
        read = yaml.safe_load(text)
        repr(read)  # hexadecimal digits may be more than Python writes as decimal ones, when a value is refused
    except UsageError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no date, or too many digits
        said = " ".join(str(error).split())
        raise UsageError(f"{where} is no YAML: {said}; a pattern that begins with * wants quotes") from error
    values = _values(Recipe, {} if read is None else read, where)
    try:
        return Recipe(**{"precision": "int", **values, **(given or {})})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def dump(recipe: Recipe, comments: Iterable[str] = ()) -> str:
    """→ YAML with every field of `recipe`, under `comments`, a line each; `parse` makes an equal recipe of it"""
    plain = {name: _plain(value) for name, value in asdict(recipe).items()}
    body = yaml.safe_dump(plain, sort_keys=False, width=2**20)
    lines = [line for comment in comments for line in comment.splitlines()]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + body


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):  # a rule: what it leaves open is left out
        return {name: part for name, part in value.items() if part is not None}
    return value


def _values(kind: Any, read: Any, where: str) -> dict[str, Any]:
    """→ the fields of the dataclass `kind` that `read`, a mapping, has, converted"""
    hints = typing.get_type_hints(kind)
    if not isinstance(read, dict):
        raise _wrong(where, f"keys and values ({', '.join(hints)})", read)
    unknown = next((key for key in read if key not in hints), None)
    if unknown is not None:
        raise UsageError(f"{where} has an unknown key {unknown!r}; known are: {', '.join(hints)}")
    missing = next((f.name for f in fields(kind) if f.default is MISSING and f.name not in read), None)
    if missing:
        raise UsageError(f"{where} has no {missing}; give it one")
    return {name: _convert(hints[name], value, f"{where}: {name}") for name, value in read.items()}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """→ `value`, as YAML has it, as the type `hint` says"""
    if isinstance(hint, UnionType):
        if value is None and type(None) in hint.__args__:
            return None
        hint = hint.__args__[0]
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _wrong(where, WORDS[tuple], value)
        return tuple(_convert(hint.__args__[0], part, f"{where}[{i}]") for i, part in enumerate(value))
    if is_dataclass(hint):
        found = _values(hint, value, where)
        try:
            return hint(**found)  # type: ignore[operator]
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is not hint:
        raise _wrong(where, WORDS[hint], value)
    return value


def _wrong(where: str, wanted: str, value: Any) -> UsageError:
    got = " ".join(repr(value).split())
    got = got if len(got) <= 60 else f"{got[:57]}..."
    return UsageError(f"{where} must be {wanted}; got {got}")


def _refuse_repeated(node: yaml.Node | None, where: str) -> None:
    """Raises UsageError for a key that stands twice in a mapping, where YAML's reader would take the last in silence,
    and for an alias: a recipe has no use for one, and a node could hold itself."""
    _check_keys(node, where, set())


def _check_keys(node: yaml.Node | None, where: str, seen: set[int]) -> None:
    if id(node) in seen:
        raise UsageError(f"{where} has an alias (*name), which is not for recipes; write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise UsageError(f"{where} has the key {twice!r} twice in what begins at line {line}; leave one out")
        for _, value in node.value:
            _check_keys(value, where, seen)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _check_keys(part, where, seen)
