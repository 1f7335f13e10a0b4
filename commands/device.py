"""--device: the finished graph of the target cpu on another device of PyTorch's."""

from dataclasses import replace

from click import UsageError
from torch import fx

from commands.common import Options
from targets import _devices
from targets._place import place
from toolkit import report_of
from toolkit.report import KEY


def require_device(options: Options, precision: str) -> None:
    """Raises at once, before a model is loaded, what stands against --device."""
    if options.device is None:
        return
    if options.target != "cpu":
        raise UsageError(f"--device is where --target cpu computes; target {options.target} has its own: leave it out")
    device = _devices.require(options.device)
    if precision == "int" and device.type != "cpu":
        raise UsageError(
            f"--precision int on PyTorch's stock kernels is for the CPU; on {options.device} give fp, bf16 or fp16"
        )


def to_device(graph: fx.GraphModule, name: str) -> None:
    """Makes the graph compute on the device, and its report say so."""
    device = _devices.require(name)
    if device.type == "cpu":
        return
    place(graph, device)
    report = report_of(graph)
    ran = {"executed": device.type, "device": _devices.label(device), "isa": str(device)}
    graph.meta[KEY] = replace(report, target={**report.target, **ran})
