"""Rows that are too wide for a program of the row kernels: refused before anything runs, or done without them."""

import pytest
import torch
from torch import fx, nn

from operators.triton.launch import WIDEST
from operators.triton.tiles import LIBRARY, Tile
from targets._fp8 import Fp8Linear
from targets._fused import NormRows, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import Activation, QuantizedLinear
from targets.base import UsageError
from targets.cuda import linear as cuda_linear
from targets.cuda.lowering import lower_to
from tests.checks import assert_sqnr

WIDE = WIDEST + 8


def linear(k: int, n: int) -> nn.Linear:
    generator = torch.Generator().manual_seed(0)
    made = nn.Linear(k, n, device="meta").to_empty(device="cpu").requires_grad_(False)
    for vector in made.parameters():
        vector.copy_(torch.rand(vector.shape, generator=generator) - 0.5)
    return made


def quantized(k: int, n: int) -> QuantizedLinear:
    return QuantizedLinear.from_linear(linear(k, n), Activation())


def graph_of(module: nn.Module) -> fx.GraphModule:
    root, graph = nn.Module(), fx.Graph()
    root.add_module("layer", module)
    graph.output(graph.call_module("layer", (graph.placeholder("x"),)))
    return fx.GraphModule(root, graph)


STATIC = Activation(scale=0.1)
ONES = torch.ones(4)
LAYERS = {
    "int8": lambda size: quantized(size, 2),
    "fp8": lambda size: Fp8Linear.from_linear(linear(size, 2)),
    "on rows": lambda size: RowsLinear(quantized(size, 2)),
    "GELU that makes rows": lambda size: RowsLinearGelu(quantized(4, size), Activation()),
    "norm after a linear": lambda size: RowsLinearAddNorm(quantized(size, 4), ONES, ONES, 1e-5, None),
    "gate that makes rows": lambda size: RowsLinearGate(quantized(4, 2 * size), Gate("silu", False), Activation()),
    "norm": lambda size: NormRows(torch.ones(size), torch.ones(size), 1e-5, None),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_refused_when_lowered(layer, device):
    lower_to(graph_of(LAYERS[layer](WIDEST)), "int", device)
    with pytest.raises(UsageError, match=f"at most {WIDEST} columns; layer has {WIDE}; .*another target$"):
        lower_to(graph_of(LAYERS[layer](WIDE)), "int", device)


def test_a_given_scale_wants_no_whole_row(device):
    lower_to(graph_of(RowsLinearGelu(quantized(4, WIDE), STATIC)), "int", device)


def test_floats_of_any_width(device, monkeypatch):
    """as a language model's head has them, whichever kernel the table names"""
    monkeypatch.setattr(cuda_linear.tiles, "tile_for", lambda *product: Tile(kernel=LIBRARY))
    source = quantized(16, WIDE)
    x = torch.rand(17, 16, generator=torch.Generator().manual_seed(1))
    assert_sqnr(cuda_linear.CudaLinear(source).to(device)(x.to(device)).cpu(), source(x), 120)
