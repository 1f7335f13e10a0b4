"""customcpu: this project's own kernels for x86, chosen at run time by instruction set."""

import torch
from torch import fx

from operators import kernels
from targets._fused import swap_modules
from targets._hardware import cpu_name
from targets._packed import MODULES
from targets.base import Execution, Recipe, Target

FUSIONS = ("attention", "qkv", "rows", "packing", "quantize", "gelu", "add_norm", "embeddings", "attention_rows")


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Each module that MODULES names → what it makes of it; a float graph stays as it is."""
    kernels.load()
    swap_modules(graph, MODULES)


def execution(precision: str) -> Execution:
    """fp has no kernels here yet: it runs in PyTorch's, and says so."""
    if precision != "int":
        isa = torch.backends.cpu.get_cpu_capability()
        why = "customcpu has no float kernels yet: float linears run in PyTorch's own"
        return Execution(executed="cpu", native=False, device=cpu_name(), isa=isa, reason=why)
    kernels.load()
    status = kernels.status()
    native = status.isa != "reference"
    executed = "customcpu" if native else "reference"
    why_not = status.reason or "the Python reference was chosen instead of the compiled kernels"
    return Execution(executed, native, cpu_name(), status.isa, status.reason if native else why_not)


TARGET = Target(
    name="customcpu", precisions=("fp", "int"), lower=lower, execution=execution, fusions=frozenset(FUSIONS)
)
