"""Where a graph's time goes: every node timed, grouped by operator, and as a trace for Chrome's viewer."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from benchmarks.files import write
from benchmarks.peers.base import Batch
from models.errors import InputError
from targets._calls import Calls
from targets._place import PLACED
from toolkit.inputs import complete

TIMED = ("call_function", "call_method", "call_module")


@dataclass(frozen=True)
class Event:
    """One run of one node: its operator, the node's name, start and duration in microseconds, output shape."""

    operator: str
    node: str
    start: float
    duration: float
    shape: str


class _Timer(fx.Interpreter):
    """Runs a graph node by node and notes an Event for each that computes, and for each operator of Calls."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.events: list[Event] = []

    def run_node(self, n: fx.Node) -> Any:
        if n.op not in TIMED or _is_calls(self.module, n):
            return super().run_node(n)
        return self._time(operator_of(self.module, n), n.name, lambda: super(_Timer, self).run_node(n))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        if not isinstance(module, Calls):
            return super().call_module(target, args, kwargs)
        inputs, sizes = args
        return module.each(inputs, sizes, lambda name, call: self._time(f"opswap.{name}", str(target), call))

    def _time(self, operator: str, node: str, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter_ns()
        result = call()
        ended = time.perf_counter_ns()
        self.events.append(Event(operator, node, begun / 1000, (ended - begun) / 1000, _shape(result)))
        return result


def _is_calls(graph: Any, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), Calls)


def operator_of(graph: Any, node: fx.Node) -> str:
    """→ "aten.softmax.int", "Linear" for a module of that class, a function's or method's own name"""
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))).__name__
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target)
    return getattr(node.target, "__name__", str(node.target))


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return ", ".join(_shape(part) for part in value) if isinstance(value, tuple | list) else ""


def require_cpu(graph: fx.GraphModule) -> None:
    """Raises InputError for a graph that runs on another device, whose times a clock on the CPU does not see."""
    device = graph.meta.get(PLACED)
    if device is not None and device.type != "cpu":
        raise InputError(f"time by operator is measured on the CPU, and this graph runs on {device}: use its profiler")


@torch.inference_mode()
def profile(graph: fx.GraphModule, batch: Batch, calls: int, warm: int = 2) -> list[list[Event]]:
    """The events of each of `calls` runs, after `warm` untimed ones. A module is timed as one operator, but those of
    Calls are timed each; the interpreter's own few microseconds a node fall between the events. Raises InputError as
    `require_cpu` does.
    """
    require_cpu(graph)
    _, given = complete(graph, (), dict(batch))
    found = []
    for number in range(warm + calls):
        timer = _Timer(graph)
        timer.run(*given.values())
        if number >= warm:
            found.append(timer.events)
    return found


def by_operator(runs: Sequence[Sequence[Event]]) -> list[dict[str, Any]]:
    """→ [{"operator", "nodes", "ms", "share"}] a call, the most expensive first; shares add up to 1"""
    total: dict[str, float] = defaultdict(float)
    nodes: dict[str, int] = defaultdict(int)
    for events in runs:
        for event in events:
            total[event.operator] += event.duration / 1000 / len(runs)
    for event in runs[0]:
        nodes[event.operator] += 1
    everything = sum(total.values()) or 1.0
    return [
        {"operator": name, "nodes": nodes[name], "ms": round(ms, 4), "share": round(ms / everything, 4)}
        for name, ms in sorted(total.items(), key=lambda item: -item[1])
    ]


def write_trace(events: Sequence[Event], path: Path) -> None:
    """One run as complete events ("ph": "X") of the Trace Event Format: chrome://tracing and Perfetto open it."""
    first = min(event.start for event in events)
    rows = [
        {
            "name": event.operator, "cat": "operator", "ph": "X", "pid": 0, "tid": 0,
            "ts": round(event.start - first, 3), "dur": round(event.duration, 3),
            "args": {"node": event.node, "output": event.shape},
        }
        for event in events
    ]  # fmt: skip
    write(path, json.dumps({"traceEvents": rows, "displayTimeUnit": "ms"}))
