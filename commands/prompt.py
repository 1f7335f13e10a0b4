"""The prompt of `ask`: line editing, history, and a few commands of its own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from commands.common import out, print_passage
from models import InputError

HELP = (
    "Type a question, or\n"
    "  :passage TEXT or FILE   ask about another passage\n"
    "  :passage                type or paste one, ended by an empty line\n"
    "  :show                   show the passage\n"
    "  :help                   this help\n"
    "  :quit, Ctrl-D           leave"
)


def converse(passage: str, read_passage: Callable[[str], str], answer: Callable[[str, str], str]) -> None:
    """Questions until :quit or the end of the input; an unusable passage or question is said and asked again."""
    session: PromptSession[str] = PromptSession(history=_history())
    print_passage(passage)
    say(f"{HELP}\n")
    while True:
        try:
            typed = session.prompt("question> ").strip()
        except KeyboardInterrupt:
            continue  # as in a shell: Ctrl-C clears the line
        except EOFError:
            return
        word, _, rest = typed.partition(" ")
        try:
            if word in (":quit", ":q", "quit", "exit"):
                return
            elif word == ":help":
                say(HELP)
            elif word == ":show":
                print_passage(passage)
            elif word == ":passage":
                passage = read_passage(rest.strip() or _typed_passage(session))
                say(f"Passage of {len(passage.split())} words.")
            elif word.startswith(":"):
                say(f"no command {word}; :help lists them")
            elif typed:
                say(answer(passage, typed))
        except InputError as error:
            say(str(error))
        except KeyboardInterrupt:
            say("stopped")


def say(text: str) -> None:
    """Lines end between words on a terminal."""
    out.print(text, soft_wrap=not out.is_terminal)


def _typed_passage(session: PromptSession[str]) -> str:
    rows: list[str] = []
    while True:
        try:
            row = session.prompt("passage> ")
        except EOFError:
            break
        if not row.strip():
            break
        rows.append(row)
    return "\n".join(rows)


def _history() -> History:
    """In a file of the user's own, so that earlier questions come back; in memory where none can be written."""
    folder = Path(click.get_app_dir("opswap"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "questions"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        print(f"opswap: questions won't be remembered: {error}", file=sys.stderr)
        return InMemoryHistory()
    return FileHistory(str(path))
