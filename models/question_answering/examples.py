"""SQuAD files of every common layout, read into one plain record a question."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError


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
    """The UTF-8 text of a plain or gzip-compressed file. Raises InputError when it can't be read."""
    path = Path(path)
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no file at {path}: give the path of an existing file") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}): convert it to UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read ({error}): give a readable text or gzip file") from error


def read_examples(path: str | Path, limit: int | None = None) -> list[Example]:
    """Questions of a SQuAD file (v1.1, v2.0, or one JSON object a line; `.gz` or not), at most `limit`.

    Raises InputError when the file is missing, damaged or of another layout.
    """
    text = read_text(path)
    try:
        examples = _parse(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}: {error.msg}): give a SQuAD file") from error
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} is not laid out as SQuAD ({type(error).__name__}: {error}): "
            "wanted data[].paragraphs[].qas[] or one question a line"
        ) from error
    if not examples:
        raise InputError(f"{path} holds no questions: give a SQuAD file with at least one")
    return examples[:limit]


def _parse(text: str) -> list[Example]:
    lines = text.split("\n", 1)
    first = json.loads(lines[0]) if len(lines) > 1 and lines[0].strip() not in ("{", "[", "") else None
    if isinstance(first, dict) and "context" in first:
        return [_from_row(json.loads(line)) for line in text.splitlines() if line.strip()]
    document = json.loads(text)
    if "context" in document:
        return [_from_row(document)]
    return [
        Example(
            str(question["id"]),
            article.get("title", ""),
            paragraph["context"],
            question["question"],
            _answers(question["answers"]),
        )
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _from_row(row: dict[str, Any]) -> Example:
    return Example(str(row["id"]), row.get("title", ""), row["context"], row["question"], _answers(row["answers"]))


def _answers(answers: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    return tuple((answer["text"], int(answer["answer_start"])) for answer in answers)
