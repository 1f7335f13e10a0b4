"""A language model with a cache of keys and values where it can have one; where it can't, that is said."""

from collections.abc import Callable
from typing import Any

from torch import fx

import targets
from commands.common import Options, err
from toolkit import CaptureError
from toolkit.cache import CacheError, with_cache

WITHOUT = "no keys and values are kept, every step computes the whole text again"


def runs_cached(options: Options) -> bool:
    """Whether the target can run a graph with a cache here; if not, one line on standard error says why."""
    target = targets.get(options.target)
    if target.native is None or not target.execution("int").native:
        return True
    err.print(f"target {target.name} runs an exported file here, which takes whole texts: {WITHOUT}")
    return False


def cached_or_not(model: Any, make: Callable[[Any], fx.GraphModule]) -> fx.GraphModule:
    """→ what `make`, which captures its argument, gives for the model with a cache; for the model as it is where that
    can't be captured, and one line on standard error says why. A graph stays as it is."""
    if isinstance(model, fx.GraphModule):
        return make(model)
    try:
        return make(with_cache(model))
    except (CacheError, CaptureError) as why:
        err.print(f"{why}: {WITHOUT}")
    return make(model)
