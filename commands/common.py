"""What every command shares: the options before the command's name, consoles, JSON, exit codes."""

import json
import math
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

FAILED, USAGE, GATE_MISSED, NOT_NATIVE = 1, 2, 3, 4

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
SEED = click.IntRange(0, 2**63 - 1)  # what PyTorch takes
TEXTS = ("--text", "--second", "--question", "--context")  # options whose value is what a model reads
WIDE = 150  # columns that wide tables want; a narrower terminal breaks their lines


@dataclass(frozen=True)
class Options:
    """The options of run.py itself, which come before the command's name; given: the names of those that were
    written out and aren't defaults."""

    target: str
    precision: str
    scheme: str
    model: str
    strict: bool
    threads: int | None
    json: bool
    without: tuple[str, ...] = ()
    recipe: str | None = None
    given: frozenset[str] = frozenset()
    calibration: str | None = None
    samples: int = 128
    ranges: str | None = None
    percentile: float | None = None
    quantizer: str = "native"
    autotune: str | None = None
    device: str | None = None
    rotate: bool = False


def written(context: click.Context | None = None) -> frozenset[str]:
    """→ the names of the options of a command, by default of the one that runs, that were written out and aren't
    defaults"""
    context = context or click.get_current_context()
    source = context.get_parameter_source
    return frozenset(name for name in context.params if source(name) is ParameterSource.COMMANDLINE)


def refuse(given: Collection[str], names: Iterable[str], why: str) -> None:
    """Raises UsageError where one of `names` is among the options given: it would change nothing, and `why`."""
    wrong = next((name for name in names if name in given), None)
    if wrong:
        raise click.UsageError(f"--{wrong.replace('_', '-')} {why}: leave it out")


def finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """The callback of every option that is a float: NaN lies in every range, as it compares with nothing, and a limit
    that is infinite is none. Raises click.BadParameter."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.", context, option)
    return value


def a_number(context: click.Context, option: click.Parameter, value: float) -> float:
    """As `finite`, of an option that may be infinite."""
    if math.isnan(value):
        raise click.BadParameter(f"{value} is no number.", context, option)
    return value


def require_streams() -> None:
    """Raises click.ClickException where standard output is closed: the next file that is opened would be it. A standard
    input that is closed becomes an empty one."""
    if sys.stdout is None:
        raise click.ClickException("standard output is closed: give it a file, or /dev/null")
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))


def require_folder() -> None:
    """Raises click.ClickException in a folder that was removed: PyTorch ends a process there by a line about its own
    libraries."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise click.ClickException("the folder that this runs in is gone: change to one that is there") from error


def require_utf8(arguments: Iterable[str]) -> None:
    """Raises click.UsageError for an argument of other bytes: Python keeps those as halves of surrogate pairs, which
    neither a tokenizer nor a report takes."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            byte = f"character {error.start} is the byte {ord(argument[error.start]) & 0xFF:#04x}"
            raise click.UsageError(f"the argument {argument!r} is not UTF-8 ({byte}): convert it to UTF-8") from error


def require_said(arguments: Iterable[str]) -> None:
    """Raises click.UsageError for an option that is given nothing, as "$FILE" is where FILE was never set: many would
    be taken for ones that are not given. Texts may be empty, and what takes them says so."""
    before = ""
    for argument in arguments:
        name = before if argument == "" else argument.removesuffix("=")
        if name != argument and name.startswith("--") and name not in TEXTS:
            raise click.UsageError(f"{name} is given nothing: give it a value, or leave it out")
        before = argument


def print_passage(passage: str) -> None:
    """A passage between empty lines, broken between words where a terminal's line ends."""
    out.print(f"\n{passage}\n", soft_wrap=not out.is_terminal)


def print_wide(*parts: RenderableType) -> None:
    """Tables whole, whatever the width of the terminal, or of what rich takes a file for (80 columns)."""
    wide = Console(width=max(out.width, WIDE), highlight=False, markup=False)
    for part in parts:
        wide.print(part, soft_wrap=isinstance(part, str))


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on standard output, the only thing there under --json."""
    click.echo(json_text(result))


def json_text(result: dict[str, Any]) -> str:
    """→ JSON, which has neither NaN nor infinity: null stands for them"""
    return json.dumps(_without_nan(result), ensure_ascii=False, indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def progress_bar(*columns: str) -> Progress:
    """A bar on standard error with counts and time left; `columns` are task fields shown at its end."""
    extra = [TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *extra,
        console=err,
        disable=not err.is_terminal,
    )
