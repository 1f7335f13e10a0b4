"""Who quantizes: this project itself, or a package that makes a Q/DQ graph of the captured one. One file a package.

Each file has PACKAGES (what pip installs, the quantizer itself first, and the version that was tried) and
quantize(graph, how, batches, accuracy) → a Q/DQ graph; it imports the packages only when that is called.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, fx

from targets._place import quiet_copies
from targets.base import UsageError
from toolkit.inputs import KEY, complete, example, guard

log = logging.getLogger(__name__)

NATIVE = "native"
NAMES = (NATIVE, "inc", "torchao")
Batches = Iterable[Mapping[str, Tensor]]
Accuracy = Callable[[fx.GraphModule], float]


@dataclass(frozen=True)
class How:
    """dynamic or static; floats: the names of the linears that are not to be quantized"""

    dynamic: bool
    floats: tuple[str, ...]


def quantize_with(
    name: str, graph: fx.GraphModule, how: How, data: Batches | None = None, accuracy: Accuracy | None = None
) -> fx.GraphModule:
    """graph: captured, float → the Q/DQ graph that the quantizer `name` makes of a copy, called as `graph` is

    data: calibration batches, for static; each is a dict of int64 [batch, sequence]. accuracy(graph) → a number, the
    higher the better: a quantizer that can look for its best settings does, and any other refuses it.
    Raises UsageError when the package is not installed, data is missing, or the package wants what PyTorch
    does not have for this model.
    """
    module = importlib.import_module(f"toolkit.quantizers.{name}")
    require_installed(name)
    if data is None and not how.dynamic:
        raise UsageError(f"quantizer {name}, scheme static: calibration data is wanted; none came; pass data")
    inputs = graph.meta[KEY]
    # a dynamic graph is called once all the same: the observers of the weights look at them then
    batches = [example(graph, inputs)] if how.dynamic or data is None else data
    if inputs.past:  # packages call the graph without the check of its inputs, which adds the empty cache
        batches = [complete(graph, (), dict(batch))[1] for batch in batches]
    try:
        with torch.no_grad(), quiet_copies():
            made: fx.GraphModule = module.quantize(graph, how, batches, accuracy)
    except NotImplementedError as error:  # PyTorch's, of what a package calls; no other failure is a word on the model
        said = " ".join(str(error).split())
        raise UsageError(f"quantizer {name} cannot quantize this model: {said}; take the native one") from error
    return callable_as(made, graph, inputs)


def callable_as(made: fx.GraphModule, graph: fx.GraphModule, inputs: Any) -> fx.GraphModule:
    """→ `made` as a graph in evaluation mode that checks its inputs, which packages drop when they copy a graph"""
    result = fx.GraphModule(made, made.graph, class_name=type(graph).__name__)
    guard(result, inputs)
    return result.eval()


def require_installed(name: str) -> str | None:
    """→ the quantizer's package and its version, None for the native one. Raises UsageError if it isn't installed."""
    if name == NATIVE:
        return None
    if name not in NAMES:
        raise UsageError(f"unknown quantizer {name!r}; choose one of: {', '.join(NAMES)}")
    module = importlib.import_module(f"toolkit.quantizers.{name}")
    for package, tried in module.PACKAGES.items():
        try:
            have = version(package)
        except PackageNotFoundError:
            wanted = " ".join(f"{needed}=={at}" for needed, at in module.PACKAGES.items())
            raise UsageError(
                f"quantizer {name} wants the package {package}, which is not installed; pip install {wanted}"
            ) from None
        if have != tried:
            log.warning("quantizer %s was tried with %s %s; this is %s", name, package, tried, have)
    package = next(iter(module.PACKAGES))
    return f"{package} {version(package)}"


def calibrate(graph: fx.GraphModule, data: Batches) -> None:
    """Calls `graph` with every batch; raises UsageError when there is none."""
    count = 0
    for batch in data:
        graph(**{name: batch[name] for name in _names(graph) if name in batch})
        count += 1
    if not count:
        raise UsageError("calibration data is empty; give at least one batch")


def _names(graph: fx.GraphModule) -> tuple[str, ...]:
    return tuple(str(node.target) for node in graph.graph.find_nodes(op="placeholder"))
