"""What a model costs on an NPU: every linear on the array, in the order of their calls, the rest on the host."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from targets._fused import EmbedNorm, NormRows, Quantize
from targets._gate import Gate
from targets.aie import linear as aie
from targets.aie.cycles import Cost, Gemm
from targets.aie.devices import Device
from targets.aie.mapper import best, common

FOLLOWED = (aie.AieRowsLinearGelu, aie.AieRowsLinearGate, aie.AieRowsLinearAddNorm)  # by one more operator of the host
LINEARS = (aie.AieLinear, aie.AieRowsLinear, *FOLLOWED)
NORMS = (NormRows, EmbedNorm, Quantize, Gate)


@dataclass(frozen=True)
class Call:
    """One call of a linear"""

    name: str
    gemm: Gemm


@dataclass(frozen=True)
class Work:
    """One call of a model. elements: those that operators of the host work on, each as often as it is worked on;
    attention: its multiply-adds."""

    calls: tuple[Call, ...]
    elements: int
    attention: int

    def times(self, batch: int) -> "Work":
        """→ the same for `batch` times as many sequences"""
        calls = [replace(call, gemm=replace(call.gemm, m=batch * call.gemm.m)) for call in self.calls]
        return Work(tuple(calls), batch * self.elements, batch * self.attention)

    def host(self, device: Device) -> float:
        """→ seconds"""
        return self.elements / device.host_elements + self.attention / device.host_macs


@dataclass(frozen=True)
class Prediction:
    """Of one call of a model on `device`: costs of its linears in their order, seconds for what is not theirs"""

    device: Device
    costs: tuple[Cost, ...]
    host: float
    reconfiguration: float = 0.0

    def parts(self) -> dict[str, float]:
        """→ seconds, which add up to `seconds`: computing; waiting for DRAM while nothing computes; and so on"""
        return {
            "compute": sum(cost.compute for cost in self.costs),
            "memory": sum(cost.array - cost.compute for cost in self.costs),
            "dispatch": sum(cost.dispatch for cost in self.costs),
            "reconfiguration": self.reconfiguration,
            "host": self.host,
        }

    @property
    def seconds(self) -> float:
        return sum(self.parts().values())

    @property
    def tops(self) -> float:
        """10¹² operations a second of the array while it works"""
        return 2 * sum(cost.gemm.macs for cost in self.costs) / sum(cost.array for cost in self.costs) / 1e12


def observe(graph: fx.GraphModule, batch: dict[str, Tensor], attention: int) -> Work:
    """graph: lowered to aie; attention: multiply-adds of a call with `batch` → what that call makes them do

    The graph runs once, so that every linear says itself how many rows it gets, and how often it is called.
    """
    calls: list[Call] = []
    elements = 0

    def look(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, given: Any, made: Any) -> None:
            nonlocal elements
            out = _largest(made).numel()
            if isinstance(module, LINEARS):
                rows = _largest(given)
                inner = module.linear if isinstance(module, aie.AieRowsLinearAddNorm) else module
                k, n = inner.in_features, inner.out_features
                calls.append(Call(name, Gemm(rows.numel() // rows.shape[-1] if k else 0, k, n, _out(module))))
            elements += out * (1 + isinstance(module, FOLLOWED))

        return module.register_forward_hook(hook)

    watched = [(name, one) for name, one in graph.named_modules() if isinstance(one, (*LINEARS, *NORMS))]
    inside = tuple(f"{name}." for name, one in watched)
    handles = [look(name, one) for name, one in watched if not name.startswith(inside)]
    try:
        with torch.no_grad():
            graph(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return Work(tuple(calls), elements, attention)


def _largest(values: Any) -> Tensor:
    """→ the first of the tensors in nested tuples: the rows, before their scales and zero points"""
    while not isinstance(values, Tensor):
        values = values[0]
    return values


def _out(module: Any) -> str:
    return "int32" if module.array is None else module.array.output.out


def predict(device: Device, work: Work, dispatch: float | None = None) -> Prediction:
    """→ with one design for all linears, which stays loaded; dispatch: seconds each, the device's where None"""
    costs = common(device, [call.gemm for call in work.calls], dispatch) if work.calls else ()
    return Prediction(device, costs, work.host(device))


def with_own_tiles(device: Device, work: Work) -> Prediction:
    """→ with the best tile for each linear, and a reconfiguration wherever the next one wants another"""
    found = {call.gemm: best(device, call.gemm) for call in work.calls}
    costs = tuple(found[call.gemm] for call in work.calls)
    changes = sum(before.tile != after.tile for before, after in pairwise((*costs, *costs[:1])))  # and to the next call
    return Prediction(device, costs, work.host(device), changes * device.reconfigure)


def with_one_dispatch(device: Device, work: Work) -> Prediction:
    """→ with all linears in a single dispatch: the least that dispatching can cost"""
    made = predict(device, work, dispatch=0.0)
    costs = [replace(cost, dispatch=device.dispatch if place == 0 else 0.0) for place, cost in enumerate(made.costs)]
    return replace(made, costs=tuple(costs))


def what_if(device: Device, work: Work, batches: Sequence[int]) -> dict[str, float]:
    """→ seconds a sequence-batch of `work`, by what would be done differently"""
    found = {
        "as it is: a dispatch a linear, one design": predict(device, work).seconds,
        "the best tile for each linear, reconfigured": with_own_tiles(device, work).seconds,
        "dispatches queued behind each other": predict(device, work, device.queued).seconds,
        "one dispatch for all": with_one_dispatch(device, work).seconds,
    }
    for batch in batches:
        found[f"{batch} times the batch"] = predict(device, work.times(batch)).seconds / batch
        queued = predict(device, work.times(batch), device.queued).seconds / batch
        found[f"{batch} times the batch, dispatches queued"] = queued
    return found


def kind(name: str) -> str:
    """A linear's name without the number of its layer: encoder.layer.3.output → encoder.layer.*.output"""
    return re.sub(r"(?<=[._])\d+(?=[._])", "*", name)
