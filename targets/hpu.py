"""hpu: Intel Gaudi. No kernels are written for it yet, so it says why it cannot run."""

import importlib.util

from targets._linear import leave
from targets.base import Execution, Target


def unavailable() -> str | None:
    why = "its kernels are not written yet"
    if importlib.util.find_spec("habana_frameworks") is None:
        why += ", and the package habana_frameworks is not installed"
    return why


def execution(precision: str) -> Execution:
    return Execution(executed="none", native=False, device="none", isa="none", reason=unavailable())


TARGET = Target(name="hpu", precisions=(), lower=leave, execution=execution, unavailable=unavailable)
