"""What a target needs to run a whole exported file itself, outside of PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from targets.base import Execution


@dataclass(frozen=True)
class Session:
    """run: int64 tensors by name → float tensors by name; nodes: how many run on what, by the report of who runs
    them; note: that in words"""

    run: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    nodes: dict[str, int]
    note: str


@dataclass(frozen=True)
class Native:
    """open(file, cache, strict): an ONNX file → a session; cache: a folder for what is compiled; strict: nothing of
    it may run elsewhere. Raises TargetUnavailable, or NotNative where strict. instead(why): how the target runs where
    that failed, in this process."""

    open: Callable[[Path, Path, bool], Session]
    instead: Callable[[str], "Execution"]
