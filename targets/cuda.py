"""cuda: NVIDIA GPUs. No kernels are written for it yet, so it says why it cannot run."""

import torch

from targets._linear import leave
from targets.base import Execution, Target


def unavailable() -> str | None:
    why = "its kernels are not written yet"
    if not torch.cuda.is_available():
        why += ", and torch.cuda.is_available() is False"
    return why


def execution(precision: str) -> Execution:
    return Execution(executed="none", native=False, device="none", isa="none", reason=unavailable())


TARGET = Target(name="cuda", precisions=(), lower=leave, execution=execution, unavailable=unavailable)
