"""What a target is: which precisions it has, how a graph is lowered to it, and how it really runs here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import fx, nn

from targets._native import Native


class UsageError(ValueError):
    """What was asked for does not exist: an unknown target, precision, scheme or input."""


class NotFinite(ValueError):
    """The model's weights, or what it computes with them, hold NaN or infinity, which have no 8 bits."""


class TargetUnavailable(RuntimeError):
    """The target cannot run on this machine at all, not even emulated."""


class NotNative(RuntimeError):
    """The target would be emulated or replaced by a fallback, and strict was asked for."""


class Layer(Protocol):
    """What a target may read of a recipe's wish for one linear. why: which pattern keeps it in float, None if none."""

    @property
    def why(self) -> str | None: ...


class Recipe(Protocol):
    """What a target may read of a recipe."""

    @property
    def precision(self) -> str: ...
    @property
    def symmetric(self) -> bool: ...
    @property
    def without(self) -> tuple[str, ...]: ...
    def layer(self, name: str) -> Layer: ...


@dataclass(frozen=True)
class Execution:
    """What really runs when a target is asked for.

    executed: whose code multiplies, e.g. "cpu" or "aie-emulated"; native: the target's own kernels or device;
    device: the hardware in words; isa: the instruction set in use; reason: why it is not native, or what is
    unusual.
    """

    executed: str
    native: bool
    device: str
    isa: str
    reason: str | None = None


Pass = Callable[[fx.GraphModule], int]


def _always() -> str | None:
    return None


def _any(linear: nn.Linear) -> str | None:
    return None


@dataclass(frozen=True)
class Target:
    """One file of this folder makes one of these, as its constant TARGET.

    precisions: those it has. lower(graph, recipe): replaces every QuantizedLinear, in place.
    execution(precision): what would run, found without a graph. passes: rewrites of its own, before lower.
    fusions: the names of those in toolkit/fuse whose modules (targets/_fused.py) it has operators for.
    fused: the precisions at which those fusions are made; wide: those captured in bfloat16 at which rows of tokens are
    float32 between its modules; quantized: those whose linears are made quantized ones before fusing
    (targets/_linear.py, and targets/_fp8.py at fp8). unavailable(): None, or one line that says why nothing
    can run here. instead: what to say of a precision that the hardware does not have, and what there is in its place.
    schemes: how linears in int may treat their activations; "weight" leaves them in float, and the target's lower a
    WeightLinear. why_not_fp8(linear): why lower leaves it in float at fp8, None where it does not. native: how it runs
    an exported file by itself, where its execution says that it runs natively. kept: the 16 bits that keys and values
    in a cache have where attention may round float32.
    """

    name: str
    precisions: tuple[str, ...]
    lower: Callable[[fx.GraphModule, Recipe], None]
    execution: Callable[[str], Execution]
    passes: tuple[Pass, ...] = ()
    fusions: frozenset[str] = frozenset()
    fused: tuple[str, ...] = ("int",)
    wide: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ("int",)
    unavailable: Callable[[], str | None] = _always
    instead: Mapping[str, str] = field(default_factory=dict)
    schemes: tuple[str, ...] = ("dynamic", "static")
    why_not_fp8: Callable[[nn.Linear], str | None] = _any
    native: Native | None = None
    kept: torch.dtype = torch.bfloat16


def require_schemes(target: Target, schemes: Iterable[str]) -> None:
    """Raises UsageError for a scheme that `target` does not have."""
    unknown = next((scheme for scheme in schemes if scheme not in target.schemes), None)
    if unknown is not None:
        has = ", ".join(target.schemes)
        raise UsageError(f"target {target.name} has no linears of the scheme {unknown!r}; choose one of: {has}")


def require_runnable(target: Target, precision: str, strict: bool) -> Execution:
    """→ how `target` runs `precision` here.

    Raises TargetUnavailable (NotNative when strict) if it cannot run, UsageError for a precision that it does
    not have, NotNative when strict and it would be emulated or fall back.
    """
    why = target.unavailable()
    if why:
        raise (NotNative if strict else TargetUnavailable)(f"target {target.name} cannot run here: {why}")
    if precision not in target.precisions:
        has = target.instead.get(precision) or f"choose one of: {', '.join(target.precisions)}"
        raise UsageError(f"target {target.name} has no precision {precision!r}; {has}")
    execution = target.execution(precision)
    if strict and not execution.native:
        raise NotNative(f"target {target.name} does not run natively here: {execution.reason}; leave out strict")
    return execution
