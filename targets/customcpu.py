"""customcpu: this project's own kernels for x86, chosen at run time by instruction set."""

import torch
from torch import fx

from operators import float_kernels, kernels
from targets._calls import in_one_call
from targets._float import lower_float
from targets._fused import COUNTED, FeedForward, Layers
from targets._hardware import cpu_name
from targets._layers import PackedFeedForward, PackedLayers
from targets._packed import FUSIONS, MODULES
from targets._swap import swap_modules
from targets._tokens import in_few_steps, own_gelu
from targets.base import Execution, Recipe, Target


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Each module that MODULES names → what it makes of it; nn.Linear → PackedFloatLinear; tokens in few steps; calls
    that follow each other as one, unless the recipe leaves that out."""
    kernels.load()
    swap_modules(graph, {**MODULES, FeedForward: PackedFeedForward, Layers: PackedLayers})
    lower_float(graph, recipe)
    in_few_steps(graph)
    if recipe.precision == "int" and "gelu" not in recipe.without:
        own_gelu(graph)
    if kernels.status().compiled and "calls" not in recipe.without:
        graph.meta.setdefault(COUNTED, {})["calls"] = in_one_call(graph)


def execution(precision: str) -> Execution:
    """Without compiled kernels, float linears run in PyTorch's, all else in the Python reference; it says so."""
    kernels.load()
    status = kernels.status()
    native = status.isa != "reference"
    if precision != "int":
        return _float_execution(status)
    executed = "customcpu" if native else "reference"
    why_not = status.reason or "the Python reference was chosen instead of the compiled kernels"
    return Execution(executed, native, cpu_name(), status.isa, status.reason if native else why_not)


def _float_execution(status: kernels.KernelStatus) -> Execution:
    if not status.compiled:
        isa = torch.backends.cpu.get_cpu_capability()
        why = f"float linears run in PyTorch's own kernels, what is fused in the Python reference: {status.reason}"
        return Execution("cpu", False, cpu_name(), isa, why)
    return Execution("customcpu", True, cpu_name(), float_kernels.used(), status.reason)


TARGET = Target(
    name="customcpu",
    precisions=("fp", "bf16", "int"),
    lower=lower,
    execution=execution,
    fusions=frozenset({*FUSIONS, "feed_forward", "layers", "calls"}),
    fused=("fp", "bf16", "int"),
    wide=("bf16",),
    schemes=("dynamic", "static", "weight"),
)
