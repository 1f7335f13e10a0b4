"""The linears of the NPU: the array's int8 product, emulated, and what the host does around it.

With int32 out, as it is unless settings.py is told otherwise, product and host's part are one operator of customcpu's:
its integers are the array's (emulate.py says why), so the answers are customcpu's, and the speed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from operators import reference
from targets._fused import RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import RowsLinearGate
from targets._linear import QuantizedLinear, Rows
from targets._packed import (
    PackedLinear,
    PackedNorm,
    PackedRowsLinear,
    PackedRowsLinearAddNorm,
    PackedRowsLinearGate,
    PackedRowsLinearGelu,
)
from targets.aie import settings
from targets.aie.cycles import Gemm
from targets.aie.emulate import Output, fast, walk
from targets.aie.mapper import best
from targets.aie.settings import Settings
from targets.aie.srs import LONGEST, OUTPUTS

Q_MAX = 128  # the largest size of a signed byte


@dataclass(frozen=True)
class Array:
    """The array on its own, for what customcpu's operators don't do: narrow outputs, and the walk tile by tile"""

    settings: Settings
    output: Output

    def floats(self, linear: PackedLinear, rows: Rows) -> Tensor:
        """rows [M, K] → float32 [M, N]: the array multiplies, the host puts the zero point right and scales"""
        q, scale, zero = rows
        made = self.multiply(linear, q.bitwise_xor(128).view(torch.int8))  # flipping the top bit takes 128 away
        # whole numbers of up to 39 bits, which float64 holds exactly
        sums = made.to(torch.float64) * 2**self.output.shift
        sums -= (zero - 128)[:, None].to(torch.float64) * linear.weight_sum
        return reference.scaled(sums, scale, linear.scale, linear.bias)

    def multiply(self, linear: PackedLinear, q: Tensor) -> Tensor:
        """q int8 [M, K] → [M, N] of the output's dtype"""
        if self.settings.form == "fast":
            return fast(q, linear.packed, linear.weight_sum, self.output)
        weight = reference.unpack_weight(linear.packed, linear.out_features, linear.in_features)
        gemm = Gemm(q.shape[0], linear.in_features, linear.out_features, self.output.out)
        return walk(q, weight, self.settings.device, best(self.settings.device, gemm).tile, self.output)


def array_of(weight: Tensor) -> Array | None:
    """weight int8 [N, K] → None where customcpu's operators give what the settings want"""
    chosen = settings.read()
    if chosen.plain:
        return None
    return Array(chosen, Output(chosen.output, shift_for(weight, chosen.output)))


def shift_for(weight: Tensor, out: str) -> int:
    """weight int8 [N, K] → the least shift with which no sum over signed bytes leaves the range of `out`"""
    most = Q_MAX * int(weight.to(torch.int64).abs().sum(1).max()) if weight.numel() else 0
    limit = torch.iinfo(OUTPUTS[out]).max
    return next(shift for shift in range(LONGEST + 1) if (most + ((1 << shift) >> 1)) >> shift <= limit)


class AieLinear(PackedLinear):
    """QuantizedLinear as the host and the array share it: quantize, multiply (emulated), scale, add bias"""

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__(source)
        self.array = array_of(source.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        if self.array is None:
            return super().forward(x)
        rows = torch.ops.opswap.quantize_per_token(x, *self.levels)
        return self.array.floats(self, rows).view(*x.shape[:-1], self.out_features)


class AieRowsLinear(PackedRowsLinear):
    """RowsLinear: rows [T, K] → float32 [T, N]"""

    def __init__(self, source: RowsLinear) -> None:
        super().__init__(source)
        self.array = array_of(source.linear.weight)

    def forward(self, rows: Rows) -> Tensor:  # type: ignore[override]
        return super().forward(rows) if self.array is None else self.array.floats(self, rows)


class AieRowsLinearGelu(PackedRowsLinearGelu):
    """RowsLinearGelu: the array multiplies, the host does GELU and quantizes: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGelu) -> None:
        super().__init__(source)
        self.array = array_of(source.linear.weight)

    def forward(self, rows: Rows) -> Rows:  # type: ignore[override]
        if self.array is None:
            return super().forward(rows)
        return torch.ops.opswap.gelu_rows(self.array.floats(self, rows), *self.made)


class AieRowsLinearGate(PackedRowsLinearGate):
    """RowsLinearGate: the array multiplies, the host does the gate and quantizes: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGate) -> None:
        super().__init__(source)
        self.array = array_of(source.linear.weight)

    def forward(self, rows: Rows) -> Rows:  # type: ignore[override]
        if self.array is None:
            return super().forward(rows)
        return torch.ops.opswap.gate_rows(self.array.floats(self, rows), *self.made)


class AieRowsLinearAddNorm(PackedRowsLinearAddNorm):
    """RowsLinearAddNorm: the array multiplies, the host adds the residual [T, N], normalizes and quantizes"""

    def __init__(self, source: RowsLinearAddNorm) -> None:
        super().__init__(source)
        self.array = array_of(source.linear.weight)

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        if self.array is None:
            return super().forward(rows, residual)
        return PackedNorm.forward(self, self.array.floats(self.linear, rows) + residual)
