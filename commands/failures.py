"""Which errors are known, and the exit codes that they end with."""

import errno
from typing import TypeGuard

import click

from commands.common import FAILED, NOT_NATIVE, USAGE

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # where a file was to be written
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)  # where one was to be made, as the cache
PRINTS = ("rich.", "click.")
NO_MEMORY = ("can't allocate memory", "out of memory")  # as PyTorch says of a CPU's, and of a GPU's


def known_before(error: click.ClickException) -> click.ClickException:
    """→ the error; of an option that stands after the command, and is one of those before it, what says so"""
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.NoSuchOption) or context is None or context.parent is None:
        return error
    name = error.option_name
    if not any(name in option.opts for option in context.parent.command.params):
        return error
    where = f"it stands before the command, run.py {name} ... {context.info_name}"
    return click.UsageError(f"No such option {name!r} of {context.info_name}: {where}", context)


def is_memory(error: Exception) -> bool:
    """Whether there was not enough memory, Python's or a device's."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def is_output(error: Exception) -> TypeGuard[OSError]:
    """Whether standard output could not be written: such an error names no file, and what prints is where it began."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    names_none = isinstance(error, OSError) and error.filename is None and error.errno is not None
    return names_none and place is not None and place.tb_frame.f_globals.get("__name__", "").startswith(PRINTS)


def words_of(error: Exception) -> str:
    """→ what is said of a known error"""
    if is_output(error):
        return f"standard output can't be written ({error.strerror}): make room, or give it another file"
    if isinstance(error, PermissionError) and error.filename is not None:
        return (f"{error.filename} may not be read or written by this user ({error.strerror}): change its rights, or "
                "give another place")  # fmt: skip
    if not is_memory(error):
        return str(error)
    return f"out of memory ({error or 'Python'}): lower --batch-size or the length of the rows, or take a smaller model"


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that this project raises on purpose, or the machine; None for any other, which is a
    bug."""
    from models.errors import InputError
    from operators.build import BuildError
    from operators.kernels import NoSuchKernels
    from operators.weights import WeightError
    from targets.base import NotFinite, NotNative, TargetUnavailable, UsageError
    from toolkit.cache import CacheError
    from toolkit.capture import CaptureError
    from toolkit.checkpoint.errors import CheckpointError
    from toolkit.export.errors import ExportError

    if isinstance(error, NotNative):
        return NOT_NATIVE
    if isinstance(error, UsageError | NoSuchKernels):
        return USAGE
    if is_output(error) or (isinstance(error, OSError) and error.errno in (*NO_ROOM, *NO_FOLDER)):
        return FAILED
    if is_memory(error):
        return FAILED
    known = (
        InputError, TargetUnavailable, NotFinite, WeightError, CaptureError, BuildError, CheckpointError, ExportError,
        CacheError, PermissionError,
    )  # fmt: skip
    return FAILED if isinstance(error, known) else None
