"""What the prompt of `ask` prints on a narrow terminal, and the files that it takes."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from commands import prompt
from commands.ask import read_passage


class Typed:
    """Stands in for a terminal: what is typed, line by line, then the end of the input."""

    def __init__(self, *lines: str) -> None:
        self.lines = iter(lines)

    def __call__(self, **given: Any) -> "Typed":
        return self

    def prompt(self, text: str) -> str:
        line = next(self.lines, None)
        if line is None:
            raise EOFError
        return line


def test_lines_end_between_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=40, highlight=False, markup=False, soft_wrap=True)
    monkeypatch.setattr(prompt, "out", screen)
    monkeypatch.setattr(prompt, "print_passage", lambda passage: None)
    monkeypatch.setattr(prompt, "PromptSession", Typed(":help", "Who?", ":passage /no/such/file.txt", ":nope"))
    monkeypatch.setattr(prompt, "_history", lambda: None)
    prompt.converse("a b c", read_passage, lambda passage, question: "an answer of many words " * 5)
    said = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, said.splitlines())) <= 40
    words = (*prompt.HELP.split(), "give the path of an existing file", "no command :nope; :help lists them")
    assert all(word in " ".join(said.split()) for word in words)


def test_a_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell stands between the prompt and the file's name."""
    (tmp_path / "notes.txt").write_text("Marie Curie was born in Warsaw.")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_passage("~/notes.txt") == "Marie Curie was born in Warsaw."
    assert read_passage("~ is no place, as it is a sentence") == "~ is no place, as it is a sentence"
