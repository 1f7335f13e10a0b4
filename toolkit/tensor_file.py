"""Tensors into one safetensors file, with the errors that any other file has."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Any strides; no two tensors over the same memory. Raises OSError where `path` can't be written, of a full disk
    too."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata))
    except SafetensorError as error:  # "Error while serializing: I/O error: No space left on device (os error 28)"
        found = re.search(r"\(os error (\d+)\)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code) if found else str(error), str(path)) from error
