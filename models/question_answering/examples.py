"""SQuAD files of every common layout, read into one plain record a question."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.outside import require_characters
from targets._json import parse_json


@dataclass(frozen=True)
class Example:
    """One question on one passage.

    `answers` holds (text, first character in the passage); it is empty for an unanswerable question.
    """

    id: str
    title: str
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]


def read_text(path: str | Path) -> str:
    """The UTF-8 text of a plain or gzip-compressed (`.gz`) file. Raises InputError when it can't be read."""
    path = Path(path)
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")  # a byte order mark, as some editors write, is no text
    except FileNotFoundError as error:
        raise InputError(f"no file at {path}: give the path of an existing file") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}): convert it to UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} can't be read ({why}): give a readable text or gzip file") from error


def read_examples(path: str | Path, limit: int | None = None) -> list[Example]:
    """Questions of a SQuAD file (v1.1, v2.0, or one JSON object a line; `.gz` or not), at most `limit`.

    In a file of one object a line the answers may also stand as two lists, `text` and `answer_start`.

    Raises InputError when the file is missing, damaged or of another layout.
    """
    text = read_text(path)
    try:
        examples = _parse(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}: {error.msg}): give a SQuAD file") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is not laid out as SQuAD ({type(error).__name__}: {error}): "
            "wanted data[].paragraphs[].qas[] or one question a line"
        ) from error
    if not examples:
        raise InputError(f"{path} holds no questions: give a SQuAD file with at least one")
    return examples[:limit]


def _parse(text: str) -> list[Example]:
    try:
        document = parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":  # which is what a second object is
            raise
        return [_example(row, row["context"], row.get("title")) for row in _rows(text)]
    if "context" in document:
        return [_example(document, document["context"], document.get("title"))]
    return [
        _example(question, paragraph["context"], article.get("title"))
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _rows(text: str) -> Iterator[dict[str, Any]]:
    # Not splitlines(): it would also break at the U+2028 and U+0085 that JSON strings may hold as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield parse_json(line)
            except json.JSONDecodeError as error:
                raise json.JSONDecodeError(error.msg, "\n" * (number - 1) + line, number - 1 + error.pos) from error


def _example(question: dict[str, Any], context: str, title: str | None) -> Example:
    for name, value in (("context", context), ("question", question["question"])):
        if not isinstance(value, str):
            raise TypeError(f"{name} is {type(value).__name__}, not text")
    answers = question["answers"]
    if isinstance(answers, dict):
        rows = zip(answers["text"], answers["answer_start"], strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in rows]
    found = tuple((str(answer["text"]), int(answer["answer_start"])) for answer in answers)
    example = Example(str(question["id"]), title or "", context, question["question"], found)
    for name, text in (("id", example.id), ("title", example.title), ("context", context),
                       ("question", example.question), *(("answer", text) for text, _ in found)):  # fmt: skip
        require_characters(text, f"the {name} of question {example.id!r}")
    return example
