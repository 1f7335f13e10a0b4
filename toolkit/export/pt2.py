"""A graph of ours → PyTorch's own file of a graph (.pt2), with PyTorch's operators alone: quantized linears as
quantize/dequantize around aten.linear, which any program that knows Q/DQ graphs reads, toolkit/qdq too."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401  defines quantized_decomposed's operators
import torch.nn.functional as F
import transformers.modeling_outputs  # noqa: F401  registers the types that graphs return
from torch import Tensor, fx, nn

from targets._bf16 import Bf16Linear
from targets._linear import Activation, QuantizedLinear
from targets._weight import WeightLinear
from targets._whole import Whole
from toolkit.capture import from_export
from toolkit.export.errors import ExportError
from toolkit.export.program import program_of
from toolkit.export.split import split_linears, swap
from toolkit.inputs import KEY
from toolkit.onnx_session import INPUTS, told

PRECISIONS = ("fp", "bf16", "int")  # that a file can be of

qd = torch.ops.quantized_decomposed


class QdqStatic(nn.Module):
    """x → dequantize(quantize(x)), by one calibrated scale and zero point"""

    def __init__(self, scale: float, how: Activation) -> None:
        super().__init__()
        self.levels = (scale, how.zero_point, int(how.symmetric), 255, torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        return qd.dequantize_per_tensor(qd.quantize_per_tensor(x, *self.levels), *self.levels)


class QdqToken(nn.Module):
    """x → dequantize(quantize(x)), each row by its own range; read back, the levels are this project's own"""

    def __init__(self, how: Activation) -> None:
        super().__init__()
        self.choose = qd.choose_qparams_per_token if how.symmetric else qd.choose_qparams_per_token_asymmetric
        self.low = -127 if how.symmetric else -128

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = self.choose(x, torch.int8)
        q = qd.quantize_per_token(x, scale, zero, self.low, 127, torch.int8)
        return qd.dequantize_per_token(q, scale, zero, self.low, 127, torch.int8, torch.float32)


class QdqWhole(nn.Module):
    """x [..., K] → dequantize(quantize(x)) [M, K], by the range of all of x"""

    def __init__(self, how: Whole) -> None:
        super().__init__()
        offset, dtype = (128, torch.int8) if how.symmetric else (0, torch.uint8)
        self.choose = qd.choose_qparams_symmetric.tensor if how.symmetric else qd.choose_qparams.tensor
        self.levels, self.eps = (how.low - offset, how.high - offset, dtype), how.eps

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low, high, dtype = self.levels
        scale, zero = self.choose(rows, low, high, self.eps, dtype)
        return qd.dequantize_per_tensor.tensor(
            qd.quantize_per_tensor.tensor(rows, scale, zero, *self.levels), scale, zero, *self.levels
        )


class QdqLinear(nn.Module):
    """linear(x, dequantize(weight int8 [N, K] by output channel), bias)"""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor | None

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__()
        self.register_buffer("weight", source.weight)
        self.register_buffer("weight_scale", source.scale)
        self.register_buffer("weight_zero_point", torch.zeros_like(source.scale, dtype=torch.int64))
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = self.weight_scale, self.weight_zero_point
        weight = qd.dequantize_per_channel(self.weight, scale, zero, 0, -128, 127, torch.int8)
        return F.linear(x, weight, self.bias)


class Apart(nn.Module):
    """Bf16Linear with its bias under another name: one that is added in float32 is no part of aten.linear, and what
    reads the graph may take the two of a module for each other"""

    weight: Tensor
    offset: Tensor | None

    def __init__(self, source: Bf16Linear) -> None:
        super().__init__()
        self.register_buffer("weight", source.weight.detach())
        self.register_buffer("offset", None if source.bias is None else source.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x.to(torch.bfloat16), self.weight).to(torch.float32)
        return y if self.offset is None else y + self.offset


def _quantizer(how: Activation | Whole) -> nn.Module:
    if isinstance(how, Whole):
        return QdqWhole(how)
    return QdqToken(how) if how.scale is None else QdqStatic(how.scale, how)


def write(graph: fx.GraphModule, path: Path, about: Mapping[str, str]) -> int:
    """graph: captured, quantized or not, not lowered, rewritten in place. → how many linears are in 8 bits

    about: what the file is to say about itself, one extra file each. Raises ExportError.
    """
    linears = split_linears(graph, _quantizer, QdqLinear)
    linears += sum(isinstance(module, WeightLinear) for module in graph.modules())  # they stay as they are
    swap(graph, Bf16Linear, Apart)
    program, _ = program_of(graph)
    try:
        torch.export.save(program, path, extra_files=dict(about))
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        raise ExportError(f"{type(graph).__name__} can't be saved as pt2: {' '.join(str(error).split())}") from error
    return linears


def read(path: Path) -> fx.GraphModule:
    """→ the graph in such a file, called as the model was; `transform` takes it too. PyTorch reads parts of it by
    pickle, which runs what it is told to: only for files that you made, or whose maker you trust."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about itself
        said = {INPUTS: ""}
        program: Any = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=said)
        graph = program.module(check_guards=False)
    if said[INPUTS]:
        names = tuple(str(node.target) for node in graph.graph.find_nodes(op="placeholder"))
        graph.meta[KEY] = told(names, said[INPUTS])
    return from_export(graph)
