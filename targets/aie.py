"""aie: the NPU of AMD Ryzen AI. Its int8 matrix product is emulated on the CPU, integer for integer.

The division of work is the NPU's: the host quantizes each row to signed int8, pads the operands to whole
native tiles, the array multiplies into int32, and the host scales the result back to float.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from operators import kernels, reference
from targets._float import lower_float
from targets._fused import Rows, RowsLinear, RowsLinearAddNorm, RowsLinearGelu, swap_modules
from targets._hardware import cpu_name, pci_ids
from targets._linear import QuantizedLinear, TargetLinear
from targets._packed import FUSIONS, PackedNorm
from targets._packed import MODULES as HOST
from targets.base import Execution, Recipe, Target

TILE_M, TILE_K, TILE_N = 4, 8, 8  # the int8 matrix shape that one instruction of XDNA takes
NPU_IDS = {"1022:1502": "XDNA (Phoenix, Hawk Point)", "1022:17f0": "XDNA2 (Strix, Krackan)"}
DEVICE_NODE = Path("/dev/accel/accel0")
PROVIDER = "VitisAIExecutionProvider"


def array_matmul(q: Tensor, packed: Tensor, weight_sum: Tensor) -> Tensor:
    """q int8 [M, K], packed weight of [N, K], weight_sum int32 [N] → int32 [M, N], M, K and N whole tiles.

    What the array computes is sum_k q·w. opswap::int8_matmul takes unsigned rows and a zero point: q + 128
    with the zero point 128 are the same integers, (q + 128) − 128 = q, so the sums are equal bit for bit.
    """
    unsigned = q.view(torch.uint8).bitwise_xor(128)  # flipping the sign bit adds 128
    zero_point = torch.full((q.shape[0],), 128, dtype=torch.int32, device=q.device)
    return torch.ops.opswap.int8_matmul(unsigned, zero_point, packed, weight_sum)


class AieLinear(TargetLinear):
    """QuantizedLinear as the host and the array share it: quantize, pad, multiply (emulated), crop, scale."""

    packed: Tensor

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__(source)
        rows, columns = -source.out_features % TILE_N, -source.in_features % TILE_K
        self.register_buffer("packed", torch.ops.opswap.pack_weight(F.pad(source.weight, (0, columns, 0, rows))))
        self.weight_sum = F.pad(source.weight_sum, (0, rows))

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        rows = torch.ops.opswap.quantize_per_token(x, *self.levels)
        return self.multiply(rows).view(*x.shape[:-1], self.out_features)

    def multiply(self, rows: Rows) -> Tensor:
        """rows [M, K] → float32 [M, N]"""
        q, scale, zero = rows
        signed = q.bitwise_xor(128).view(torch.int8)  # flipping the top bit takes 128 away
        padded = F.pad(signed, (0, -self.in_features % TILE_K, 0, -signed.shape[0] % TILE_M))
        acc = array_matmul(padded, self.packed, self.weight_sum)[: signed.shape[0], : self.out_features]
        if not self.activation.symmetric:  # the host puts the zero point right, exactly
            acc = acc - (zero - 128)[:, None] * self.weight_sum[: self.out_features]
        return reference.scaled(acc, scale, self.scale, self.bias)


class AieRowsLinear(AieLinear):
    """RowsLinear: rows [T, K] → float32 [T, N]"""

    def __init__(self, source: RowsLinear) -> None:
        super().__init__(source.linear)

    def forward(self, rows: Rows) -> Tensor:  # type: ignore[override]
        return self.multiply(rows)


class AieRowsLinearGelu(AieLinear):
    """RowsLinearGelu: the array multiplies, the host does GELU and quantizes: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGelu) -> None:
        super().__init__(source.linear)
        self.made = source.levels

    def forward(self, rows: Rows) -> Rows:  # type: ignore[override]
        return torch.ops.opswap.gelu_rows(self.multiply(rows), *self.made)


class AieRowsLinearAddNorm(PackedNorm):
    """RowsLinearAddNorm: the array multiplies, the host adds the residual [T, N], normalizes and quantizes"""

    def __init__(self, source: RowsLinearAddNorm) -> None:
        super().__init__(source)
        self.linear = AieLinear(source.linear)

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        return super().forward(self.linear.multiply(rows) + residual)


# What is no linear layer is the host's, and runs as on customcpu.
MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    **HOST,
    QuantizedLinear: AieLinear,
    RowsLinear: AieRowsLinear,
    RowsLinearGelu: AieRowsLinearGelu,
    RowsLinearAddNorm: AieRowsLinearAddNorm,
}


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Each module that MODULES names → what it makes of it; the float head as on customcpu."""
    kernels.load()
    swap_modules(graph, MODULES)
    lower_float(graph)


def missing() -> list[str]:
    """→ what a native run would need and this machine lacks, in words"""
    lacks = []
    if importlib.util.find_spec("onnxruntime") is None:
        lacks.append("onnxruntime is not installed")
    else:
        providers = importlib.import_module("onnxruntime").get_available_providers()
        if PROVIDER not in providers:
            lacks.append(f"onnxruntime has no {PROVIDER}")
    if not DEVICE_NODE.exists():
        lacks.append(f"no NPU device node {DEVICE_NODE}")
    if not pci_ids() & NPU_IDS.keys():
        lacks.append(f"no NPU on the PCI bus ({' or '.join(NPU_IDS)})")
    return lacks


def execution(precision: str) -> Execution:
    """Always emulated: even with an NPU in place, sending work to it is not written yet."""
    kernels.load()
    lacks = missing() or ["sending work to the NPU that is here is not written yet"]
    why = f"the NPU's int8 products are emulated on the CPU: {', '.join(lacks)}"
    return Execution("aie-emulated", False, cpu_name(), kernels.status().isa, why)


TARGET = Target(name="aie", precisions=("int",), lower=lower, execution=execution, fusions=frozenset(FUSIONS))
