"""customcpu: this project's own kernels for x86, chosen at run time by instruction set."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from operators import kernels
from targets._fused import swap_modules
from targets._hardware import cpu_name
from targets._linear import QuantizedLinear
from targets.base import Execution, Recipe, Target


class PackedLinear(nn.Module):
    """QuantizedLinear as one operator, opswap::linear_int8, over weights packed once."""

    packed: Tensor
    scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__()
        self.symmetric = source.symmetric
        self.in_features, self.out_features = source.in_features, source.out_features
        self.register_buffer("packed", torch.ops.opswap.pack_weight(source.weight))
        self.register_buffer("scale", source.scale)
        self.register_buffer("weight_sum", source.weight_sum)
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        return torch.ops.opswap.linear_int8(x, self.packed, self.weight_sum, self.scale, self.bias, self.symmetric)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, symmetric={self.symmetric}"


MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {QuantizedLinear: PackedLinear}
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
