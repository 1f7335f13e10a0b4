"""cuda's quantized linears: INT8 and FP8 on rows, each with what follows it in as few kernels as its tile allows."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from operators.triton import fp8, int8, layer_norm, rows, tiles
from operators.triton.gate import gate_rows
from operators.triton.launch import WIDEST
from operators.triton.layer_norm import Norm
from operators.triton.levels import FP8, Levels
from operators.triton.source import Parts
from targets._fp8 import Fp8Activation, Fp8Linear
from targets._fused import NormRows, Quantize, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import RowsLinearGate
from targets._linear import Activation, QuantizedLinear, Rows, TargetLinear
from targets._whole import QuantizeWhole

# What floats between two kernels are. Of 16 bits, so that half as much is moved, and with 11 bits of precision, where
# bfloat16 has 8: a level of int8 or FP8 is far wider. What overflows is infinite, and answered with NaN, not clipped.
HALF = torch.float16


def levels_of(activation: Activation) -> Levels:
    return Levels(FP8) if isinstance(activation, Fp8Activation) else Levels.of(*activation.levels())


def hold_norm(module: Any, source: NormRows) -> None:
    """Gives `module` what norm_of reads."""
    module.eps, module.norm_levels = source.eps, None if source.activation is None else levels_of(source.activation)
    module.keeps_sum, module.rms = source.keeps_sum, source.rms
    for name in ("gamma", "beta", "smooth_scale", "smooth_shift"):
        vector = getattr(source, name)
        module.register_buffer(name, None if vector is None else vector.float())


def norm_of(module: Any) -> Norm:
    """→ the norm that a module holds, its floats, or the sum it keeps, of the module's `dtype`"""
    smooth = None if module.smooth_scale is None else (module.smooth_scale, module.smooth_shift)
    ways = module.norm_levels, smooth, module.keeps_sum, module.rms
    return Norm(module.gamma, module.beta, module.eps, module.dtype, *ways)


class CudaLinear(TargetLinear):
    """QuantizedLinear or Fp8Linear: x [..., K] → [..., N], of x's float type"""

    weight: Tensor

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__(source)
        self.fp8, self.how = isinstance(source, Fp8Linear), levels_of(source.activation)
        self.register_buffer("weight", source.weight.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        made = rows.quantize(x.reshape(-1, self.in_features), self.how)
        return self.floats(made, x.dtype).view(*x.shape[:-1], self.out_features)

    def floats(self, made: Rows, dtype: torch.dtype, gelu: str = "none") -> Tensor:
        """rows [T, K] → [T, N] of `dtype`; gelu: that which follows, one of floating.ACTIVATIONS"""
        if self.fp8:
            return fp8.linear_fp8(made, fp8.Weight(self.weight, self.scale, self.bias), dtype, gelu)
        if self._tile(made).kernel == tiles.LIBRARY and self.out_features <= WIDEST:
            return rows.scale_parts(self._parts(made), dtype, gelu)
        return int8.linear_int8(made, self._weight(), dtype, gelu)

    def to_rows(self, made: Rows, how: Levels, gelu: str) -> Rows:
        """rows [T, K] → rows [T, N] of GELU(linear); gelu: which, one of floating.GELUS

        With a scale that is given the matrix kernel makes them itself. A scale of a row's own wants all of the row,
        which no program of that kernel has, and a rotation all of a block: a second kernel reads the floats, or the
        sums where those come in parts.
        """
        if not self.fp8 and how.scale and not how.rotation:
            return int8.linear_int8_levels(made, self._weight(), how, gelu)
        if self._in_parts(made):
            return rows.gelu_parts(self._parts(made), how, gelu)
        return rows.quantize(self.floats(made, HALF, gelu), how)

    def gated(self, made: Rows, how: Levels, act: str, second: bool) -> Rows:
        """rows [T, K] → rows [T, N / 2] of act(one half) · the other; act: one of operators.gate.ACTIVATIONS"""
        source = self._parts(made) if self._in_parts(made) else self.floats(made, HALF)
        return gate_rows(source, how, act, second)

    def normed(self, made: Rows, residual: Tensor, norm: Norm) -> tuple[Tensor, Rows | None]:
        """rows [T, K], residual [T, N] → LayerNorm(linear + residual), or the sum, and its rows if `norm` has levels

        What is added to floats of 16 bits has 16 itself, and float32 where a sum was kept: halve says why.
        """
        if self._in_parts(made):
            return layer_norm.norm_parts(self._parts(made), residual, norm)
        return layer_norm.norm(self.floats(made, residual.dtype), residual, norm)

    def _weight(self) -> int8.Weight:
        return int8.Weight(self.weight, self.scale, self.weight_sum, self.bias, not self.activation.symmetric)

    def _parts(self, made: Rows) -> Parts:
        return int8.linear_int8_parts(made, self._weight(), self._tile(made))

    def _in_parts(self, made: Rows) -> bool:
        """Whether the sums alone come out of the multiplication: K is split, or PyTorch's kernel is used"""
        return not self.fp8 and (self._tile(made).split > 1 or self._tile(made).kernel == tiles.LIBRARY)

    def _tile(self, made: Rows) -> tiles.Tile:
        return tiles.tile_for("int8", made[0].shape[0], self.out_features, self.in_features)


class CudaRowsLinear(CudaLinear):
    """RowsLinear: rows [T, K] → [T, N] of `dtype`"""

    dtype = torch.float32

    def __init__(self, source: RowsLinear) -> None:
        super().__init__(source.linear)

    def forward(self, made: Rows) -> Tensor:  # type: ignore[override]
        return self.floats(made, self.dtype)


class CudaRowsLinearGelu(CudaLinear):
    """RowsLinearGelu: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGelu) -> None:
        super().__init__(source.linear)
        self.made, self.gelu = levels_of(source.activation), "gelu_tanh" if source.by_tanh else "gelu"

    def forward(self, made: Rows) -> Rows:  # type: ignore[override]
        return self.to_rows(made, self.made, self.gelu)


class CudaRowsLinearGate(CudaLinear):
    """RowsLinearGate: rows [T, K] → rows [T, N]"""

    def __init__(self, source: RowsLinearGate) -> None:
        super().__init__(source.linear)
        self.made, self.act, self.second = levels_of(source.activation), source.gate.act, source.gate.second

    def forward(self, made: Rows) -> Rows:  # type: ignore[override]
        return self.gated(made, self.made, self.act, self.second)


class CudaRowsLinearAddNorm(CudaLinear):
    """RowsLinearAddNorm: rows [T, K], residual [T, N] → y of `dtype`, or with an activation (y, rows of y); the sum in
    the place of y where that is kept"""

    dtype = torch.float32

    def __init__(self, source: RowsLinearAddNorm) -> None:
        super().__init__(source.linear)
        hold_norm(self, source)

    def forward(self, made: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        y, out = self.normed(made, residual, norm_of(self))
        return y if out is None else (y, out)


class CudaQuantize(nn.Module):
    """Quantize: x [..., K] of any float type → rows, the leading sizes as one"""

    def __init__(self, source: Quantize) -> None:
        super().__init__()
        self.how = levels_of(source.activation)

    def forward(self, x: Tensor) -> Rows:
        return rows.quantize(x.reshape(-1, x.shape[-1]), self.how)


class CudaQuantizeWhole(QuantizeWhole):
    """QuantizeWhole, its bytes and zero points made signed: rows as the kernels take them"""

    def __init__(self, source: QuantizeWhole) -> None:
        super().__init__(source.how)

    def forward(self, x: Tensor) -> Rows:
        q, scale, zero_point = super().forward(x.float())
        return q.bitwise_xor(128).view(torch.int8), scale, zero_point - 128


class FloatLinear(nn.Linear):
    """A linear that a recipe keeps in float, where x may be of 16 bits: x of any float type → float32"""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source.in_features, source.out_features, source.bias is not None, device="meta")
        self.weight = nn.Parameter(source.weight.detach(), requires_grad=False)
        if source.bias is not None:
            self.bias = nn.Parameter(source.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x.to(self.weight.dtype))).float()
