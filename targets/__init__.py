"""The targets: one file (or folder) each, and the folder listing is the registry.

A file whose name starts with an underscore, and base.py, are no targets. A target is imported when it is
asked for.
"""

import importlib
import pkgutil

from targets.base import Execution, NotNative, Target, TargetUnavailable, UsageError, require_runnable, require_schemes

__all__ = [
    "Execution",
    "NotNative",
    "Target",
    "TargetUnavailable",
    "UsageError",
    "diagnose",
    "get",
    "names",
    "require_runnable",
    "require_schemes",
]


def names() -> tuple[str, ...]:
    """→ the targets' names, sorted; nothing is imported."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_") and name != "base"))


def get(name: str) -> Target:
    """→ the target called `name`, imported now. Raises UsageError for an unknown name."""
    if name not in names():
        raise UsageError(f"unknown target {name!r}; choose one of: {', '.join(names())}")
    target = importlib.import_module(f"targets.{name}").TARGET
    if not isinstance(target, Target):
        raise TypeError(f"targets/{name}.py: TARGET must be a Target; got {type(target).__name__}; see targets/base.py")
    return target


def diagnose(name: str) -> dict[str, object]:
    """→ {"available", "native", "reason"} of one target on this machine, at int where it has that"""
    target = get(name)
    why = target.unavailable()
    if why:
        return {"available": False, "native": False, "reason": why}
    precision = "int" if "int" in target.precisions else target.precisions[0]
    execution = target.execution(precision)
    return {"available": True, "native": execution.native, "reason": execution.reason}
