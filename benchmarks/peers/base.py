"""What a peer is: another engine that runs the same model on the same inputs."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

Batch = dict[str, Tensor]
# A batch → what the model is for: start and end logits [batch, sequence] each, logits of classes [batch, classes] or of
# each token [batch, sequence, classes], or an encoder's last hidden states [batch, sequence, hidden], which an engine
# that runs the encoder only gives of any model. NumPy arrays or tensors, in the engine's own float type.
Run = Callable[[Batch], tuple[Any, ...]]


@dataclass(frozen=True)
class Work:
    """What every engine gets ready for.

    model: float32, in evaluation mode, not to be changed. batch: input_ids, attention_mask and, where the model has
    them, token_type_ids, int64 [batch, sequence]. threads: how many an engine may compute on. folder: for files of its
    own; deleted at the end. dynamic: other lengths than the batch's will come; otherwise every call has its shape.
    """

    model: PreTrainedModel
    batch: Batch
    threads: int
    folder: Path
    dynamic: bool = False


@dataclass(frozen=True)
class Engine:
    """One way of a peer to run the model; a file of this folder lists its own as ENGINES.

    name: as in tables. precision: of its linears: fp32, bf16 or int8. packages: what must be installed, as
    pip names it; the first one's version is reported. prepare(work): converts, quantizes, compiles, and returns the
    call that is timed. encoder_only: the head is left out. note: what a reader of the table should know.
    """

    name: str
    precision: str
    packages: tuple[str, ...]
    prepare: Callable[[Work], Run]
    encoder_only: bool = False
    note: str = ""

    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(package for package in self.packages if version(package) is None)

    def version(self) -> str | None:
        """Of the first package; None when there is none, or it is not installed."""
        return version(self.packages[0]) if self.packages else None


def version(package: str) -> str | None:
    """The installed version of a package, asked without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
