"""What the commands of this folder share that are run by themselves, `python -m benchmarks.NAME`."""

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
