"""What quantized linears become on their way to ONNX: modules that call operators which onnx_translation.py knows.

The operators have a schema and shapes, and no arithmetic: they are exported and never run.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from targets._bf16 import Bf16Linear
from targets._linear import Activation, QuantizedLinear
from targets._weight import WeightLinear
from targets._whole import Whole

Rows = tuple[Tensor, Tensor, Tensor]

LIBRARY = torch.library.Library("opswap_onnx", "DEF")
LIBRARY.define("quantize_static(Tensor x, Tensor scale, Tensor zero, bool symmetric) -> Tensor")
LIBRARY.define("quantize_token(Tensor x, bool symmetric) -> (Tensor q, Tensor scale, Tensor zero)")
LIBRARY.define(
    "quantize_whole(Tensor x, bool symmetric, int low, int high, float eps) -> (Tensor q, Tensor scale, Tensor zero)"
)
LIBRARY.define("linear_qdq(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor")
LIBRARY.define(
    "linear_rows(Tensor q, Tensor scale, Tensor zero, Tensor weight, Tensor weight_sum, Tensor weight_scale, "
    "Tensor? bias) -> Tensor"
)


def _fake_static(x: Tensor, scale: Tensor, zero: Tensor, symmetric: bool) -> Tensor:
    return torch.empty_like(x)


def _fake_token(x: Tensor, symmetric: bool) -> Rows:
    rows = (*x.shape[:-1], 1)
    return torch.empty_like(x, dtype=torch.uint8), x.new_empty(rows), x.new_empty(rows, dtype=torch.int32)


def _fake_whole(x: Tensor, symmetric: bool, low: int, high: int, eps: float) -> Rows:
    q = x.new_empty((x.numel() // x.shape[-1], x.shape[-1]), dtype=torch.uint8)
    return q, x.new_empty((1, 1)), x.new_empty((1, 1), dtype=torch.int32)


def _fake_qdq(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[1]))


def _fake_rows(q: Tensor, scale: Tensor, zero: Tensor, weight: Tensor, weight_sum: Tensor, weight_scale: Tensor,
               bias: Tensor | None) -> Tensor:  # fmt: skip
    return scale.new_empty((*q.shape[:-1], weight.shape[1]))


_FAKES: dict[str, Callable[..., Any]] = {
    "quantize_static": _fake_static,
    "quantize_token": _fake_token,
    "quantize_whole": _fake_whole,
    "linear_qdq": _fake_qdq,
    "linear_rows": _fake_rows,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"opswap_onnx::{_name}", _fake, lib=LIBRARY)

OPERATORS = torch.ops.opswap_onnx


class OnnxStatic(nn.Module):
    """x float32 → dequantize(quantize(x)), by one calibrated scale float32 [] and zero point uint8 []"""

    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, how: Activation) -> None:
        super().__init__()
        self.symmetric = how.symmetric
        self.register_buffer("input_scale", torch.tensor(how.scale, dtype=torch.float32))
        self.register_buffer("input_zero_point", torch.tensor(how.zero_point, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        return OPERATORS.quantize_static(x, self.input_scale, self.input_zero_point, self.symmetric)


class OnnxToken(nn.Module):
    """x float32 [..., K] → q uint8 [..., K], scale float32 [..., 1], zero point int32 [..., 1]: by each row's range"""

    def __init__(self, how: Activation) -> None:
        super().__init__()
        self.symmetric = how.symmetric

    def forward(self, x: Tensor) -> Rows:
        return OPERATORS.quantize_token(x, self.symmetric)


class OnnxWhole(nn.Module):
    """x float32 [..., K] → q uint8 [M, K], scale float32 [1, 1], zero point int32 [1, 1]: by the range of all of x"""

    def __init__(self, how: Whole) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Rows:
        return OPERATORS.quantize_whole(x, self.how.symmetric, self.how.low, self.how.high, self.how.eps)


class OnnxLinear(nn.Module):
    """A quantized linear behind one of the above, or with int8 weights alone; weight int8 [K, N], as ONNX has it."""

    weight: Tensor
    weight_scale: Tensor
    weight_sum: Tensor | None
    bias: Tensor | None

    def __init__(self, source: QuantizedLinear | WeightLinear) -> None:
        super().__init__()
        self.register_buffer("weight", source.weight.t().contiguous())
        self.register_buffer("weight_scale", source.scale)
        self.register_buffer("weight_sum", source.weight_sum if isinstance(source, QuantizedLinear) else None)
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor | Rows) -> Tensor:
        if isinstance(x, Tensor):
            return OPERATORS.linear_qdq(x, self.weight, self.weight_scale, self.bias)
        return OPERATORS.linear_rows(*x, self.weight, self.weight_sum, self.weight_scale, self.bias)


def widened(source: Bf16Linear) -> nn.Linear:
    """→ the linear in float32, with the weights that bfloat16 left"""
    linear = nn.Linear(source.in_features, source.out_features, bias=source.bias is not None, device="meta")
    linear.weight = nn.Parameter(source.weight.detach().float(), requires_grad=False)
    if source.bias is not None:
        linear.bias = nn.Parameter(source.bias.detach(), requires_grad=False)
    return linear.eval()
