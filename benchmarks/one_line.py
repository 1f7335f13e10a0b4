"""A failure in one line: an engine's, and that of the commands which are run by `python -m benchmarks.NAME`."""

from typing import Any

import click

from models import InputError
from targets.base import NotNative, TargetUnavailable, UsageError


class OneLine(click.Command):
    """A command that says in one line, with exit code 1, what of the given it can't use; an error that nobody raises on
    purpose keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InputError, UsageError, TargetUnavailable, NotNative) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def one_line(error: Exception) -> str:
    """→ its kind, and the first line of what it says"""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
