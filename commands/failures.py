"""Which errors are known, and the exit codes that they end with."""

import errno

from commands.common import FAILED, NOT_NATIVE, USAGE

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # where a file was to be written
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)  # where one was to be made, as the cache


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that this project raises on purpose; None for any other, which is a bug."""
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
    if isinstance(error, OSError) and error.errno in (*NO_ROOM, *NO_FOLDER):
        return FAILED
    known = (
        InputError, TargetUnavailable, NotFinite, WeightError, CaptureError, BuildError, CheckpointError, ExportError,
        CacheError, PermissionError,
    )  # fmt: skip
    return FAILED if isinstance(error, known) else None
