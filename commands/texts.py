"""The texts that `encode`, `classify`, `tag` and `generate` are given, and the options that commands share for them."""

import sys
from collections.abc import Callable
from typing import Any

import click

from commands.story import SENTENCES
from models import InputError
from models.question_answering.examples import read_text

STDIN = "standard input"
TEXTS = "text: give one a line, or --text"  # what `given_texts` wants


def text_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--text and --file: what `given_texts` takes"""
    command = click.option("--file", "path", metavar="FILE", help="Texts, one a line; .gz too.")(command)
    return click.option("--text", "texts", multiple=True, help="Repeatable.  [default: standard input, one a line; at "
                        "a terminal sentences of the built-in story]")(command)  # fmt: skip


def window_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--max-length and --stride, None where they aren't given: what `longest_row` and `make_windows` take"""
    command = click.option("--stride", type=click.IntRange(0), help="Tokens two windows share.  [default: 128, or a "
                           "third of a window where that is less]")(command)  # fmt: skip
    return click.option("--max-length", type=click.IntRange(1), help="Tokens a window or row.  [default: 384, or what "
                        "the model reads]")(command)  # fmt: skip


def given_texts(texts: tuple[str, ...], path: str | None, built_in: list[str] | None = None) -> list[str]:
    """→ --text, then the lines of --file; else those of standard input; at a terminal `built_in`, or the sentences of
    the story. Raises InputError where a file or standard input holds none."""
    found = list(texts)
    if path is not None:
        found += lines_of(read_text(path), path, TEXTS)
    if found:
        return found
    if not sys.stdin.isatty():
        return lines_of(standard_input(), STDIN, TEXTS)
    return built_in or SENTENCES


def standard_input() -> str:
    """→ all of it. Raises InputError where it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")  # a byte order mark is no text, as in a file
    except UnicodeDecodeError as error:
        raise InputError(f"{STDIN} is not UTF-8 (byte {error.start}): convert it to UTF-8") from error


def lines_of(text: str, source: str, wanted: str = "text: give one a line") -> list[str]:
    """→ the lines of `text` that hold something. Raises InputError where none does, by what `source` calls it and
    `wanted` says."""
    found = [line.strip() for line in text.split("\n") if line.strip()]  # not splitlines(): U+0085 is text
    if not found:
        raise InputError(f"{source} holds no {wanted}")
    return found
