"""PyTorch's own devices, on which the target cpu computes where one is named: which there are, and why not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from targets.base import TargetUnavailable, UsageError

Probe = Callable[[], bool]


@dataclass(frozen=True)
class Kind:
    """label: in words; probe: whether there is one; built: whether this PyTorch was built for it."""

    label: str
    probe: Probe
    built: Probe


def _cuda_built() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None


# ROCm answers under CUDA's name in PyTorch.
KINDS = {
    "cuda": Kind("NVIDIA GPU by CUDA, AMD GPU by ROCm", torch.cuda.is_available, _cuda_built),
    "xpu": Kind("Intel GPU", torch.xpu.is_available, torch.xpu._is_compiled),
    "mps": Kind("Apple GPU", torch.backends.mps.is_available, torch.backends.mps.is_built),
}


def why_not(name: str) -> str | None:
    """name: a key of KINDS → why PyTorch has no such device here; None if it has"""
    kind = KINDS[name]
    if kind.probe():
        return None
    if not kind.built():
        return f"this PyTorch ({torch.__version__}) is built without it"
    return f"PyTorch {torch.__version__} finds none"


def diagnose() -> dict[str, dict[str, object]]:
    """→ {"available", "what", "device", "reason"} of each of KINDS"""
    found: dict[str, dict[str, object]] = {}
    for name, kind in KINDS.items():
        why = why_not(name)
        device = None if why else label(torch.device(name))
        found[name] = {"available": why is None, "what": kind.label, "device": device, "reason": why}
    return found


def require(name: str) -> torch.device:
    """→ the device called `name`, which computes. Raises UsageError for what is no device's name, TargetUnavailable for
    one that is not here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; choose cpu or one of: {', '.join(KINDS)}") from error
    if device.type == "meta":
        raise UsageError("the device meta computes nothing; choose cpu or one of: " + ", ".join(KINDS))
    why = why_not(device.type) if device.type in KINDS else _tried(device)
    why = why or (_tried(device) if device.type in KINDS else None)
    if why:
        raise TargetUnavailable(f"device {name} is not here: {why}; leave --device out to compute on the CPU")
    return device


def label(device: torch.device) -> str:
    """→ the hardware in words, as far as PyTorch says it"""
    module = getattr(torch, device.type, None)
    named = getattr(module, "get_device_name", None)
    return str(named(device)) if named else KINDS[device.type].label if device.type in KINDS else device.type


def _tried(device: torch.device) -> str | None:
    """→ the first sentence of what PyTorch says against a tensor there, None if it makes one"""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
    return None
