"""Q/DQ graphs of one linear, written by hand with PyTorch's operators."""

from collections.abc import Callable

import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401  defines the operators
import torch.nn.functional as F
from torch import Tensor, fx, nn

from targets._linear import Activation
from targets._whole import Whole

q = torch.ops.quantized_decomposed
X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
SCALE = 0.02  # X reaches beyond 127 of these: levels are cut off
INT8 = torch.tensor([[127, -128, 3, 0, -7, 90], [-128, 1, 2, -3, 4, -5], [0, 0, 0, 0, 0, 1]], dtype=torch.int8)


def per_tensor(x: Tensor, scale: float, zero: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
    levels = q.quantize_per_tensor(x, scale, zero, low, high, dtype)
    return q.dequantize_per_tensor(levels, scale, zero, low, high, dtype)


def whole(choose: Callable, low: int, high: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def quantized(x: Tensor) -> Tensor:
        scale, zero = choose(x, low, high, 1e-6, dtype)
        levels = q.quantize_per_tensor.tensor(x, scale, zero, low, high, dtype)
        return q.dequantize_per_tensor.tensor(levels, scale, zero, low, high, dtype)

    return quantized


def per_token(choose: Callable) -> Callable[[Tensor], Tensor]:
    def quantized(x: Tensor) -> Tensor:
        scale, zero = choose(x, torch.int8)
        levels = q.quantize_per_token(x, scale, zero, -128, 127, torch.int8)
        return q.dequantize_per_token(levels, scale, zero, -128, 127, torch.int8, torch.float32)

    return quantized


class Layer(nn.Module):
    """linear(quantized(x), weight, bias)"""

    def __init__(self, quantized: Callable[[Tensor], Tensor], weight: Callable[["Layer"], Tensor], bias: bool = True):
        super().__init__()
        self.quantized, self.weight = quantized, weight
        self.register_buffer("integers", INT8.clone())
        self.register_buffer("unsigned", (INT8.int() + 128).to(torch.uint8))
        self.register_buffer("floats", INT8 * torch.tensor([[0.1], [0.2], [0.3]]))
        self.register_buffer("scales", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("zeros", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("middles", torch.full((3,), 128))
        self.register_buffer("ones", torch.ones(3, dtype=torch.int64))
        self.register_buffer("by_input", torch.ones(6))
        self.register_buffer("bias", torch.tensor([1.0, -2.0, 3.0]) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.quantized(x), self.weight(self), self.bias)


def by_channel(layer: Layer) -> Tensor:
    return q.dequantize_per_channel(layer.integers, layer.scales, layer.zeros, 0, -128, 127, torch.int8)


def unfolded(layer: Layer) -> Tensor:
    levels = q.quantize_per_channel(layer.floats, layer.scales, layer.zeros, 0, -128, 127, torch.int8)
    return q.dequantize_per_channel(levels, layer.scales, layer.zeros, 0, -128, 127, torch.int8)


def around_128(layer: Layer) -> Tensor:
    return q.dequantize_per_channel(layer.unsigned, layer.scales, layer.middles, 0, 0, 255, torch.uint8)


def with_zero_points(layer: Layer) -> Tensor:
    return q.dequantize_per_channel(layer.integers, layer.scales, layer.ones, 0, -128, 127, torch.int8)


def by_input(layer: Layer) -> Tensor:
    return q.dequantize_per_channel(layer.integers, layer.by_input, None, 1, -128, 127, torch.int8)


def one_scale(layer: Layer) -> Tensor:
    return q.dequantize_per_tensor(layer.integers, 0.1, 0, -128, 127, torch.int8)


def graph_of(model: nn.Module) -> fx.GraphModule:
    shapes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
    with torch.no_grad():
        exported = torch.export.export(model.eval(), (X,), dynamic_shapes=shapes).module(check_guards=False)
    return fx.GraphModule(exported, exported.graph)


def static(zero: int, low: int, high: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda x: per_tensor(x, SCALE, zero, low, high, dtype)


U8, S8 = torch.uint8, torch.int8
INPUTS = {
    "static uint8": (static(117, 0, 255, U8), Activation(False, SCALE, 117)),
    "static int8": (static(-11, -128, 127, S8), Activation(False, SCALE, 117)),
    "static int8, symmetric": (static(0, -127, 127, S8), Activation(True, SCALE)),
    "static, 7 bits": (static(60, 0, 127, U8), Activation(False, SCALE, 60)),
    "whole": (whole(q.choose_qparams.tensor, 0, 255, U8), Whole(False, 0, 255, 1e-6)),
    "whole, int8": (whole(q.choose_qparams.tensor, -128, 127, S8), Whole(False, 0, 255, 1e-6)),
    "whole, symmetric": (whole(q.choose_qparams_symmetric.tensor, -127, 127, S8), Whole(True, 1, 255, 1e-6)),
    "per token": (per_token(q.choose_qparams_per_token_asymmetric.default), Activation(False)),
    "per token, symmetric": (per_token(q.choose_qparams_per_token.default), Activation(True)),
}
