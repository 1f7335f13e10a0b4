"""The linears of the NPU: what the host does around the array's int8 product, which is emulated."""

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import reference
from targets._fused import Rows, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._linear import QuantizedLinear, TargetLinear
from targets._packed import PackedNorm

TILE_M, TILE_K, TILE_N = 4, 8, 8  # the int8 matrix shape that one instruction of XDNA takes


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
