"""Rows that are rotated before they become levels: cuda's modules, and whole tiny models."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from operators.reference import rotated
from operators.triton.launch import WIDEST
from operators.triton.levels import Levels
from operators.triton.tiles import LIBRARY, Tile
from targets._fp8 import Fp8Activation
from targets._fused import Quantize, RowsLinear, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import Activation, QuantizedLinear, Rows
from targets.base import UsageError
from targets.cuda import linear as cuda
from targets.cuda.lowering import lower_to
from tests import tiny
from tests.activations import ROTATED
from tests.checks import assert_sqnr
from tests.cuda.samples import random, same_rows, unsigned
from tests.cuda.test_wide import WIDE, graph_of, quantized
from tests.toolkit.families import build
from toolkit import Recipe, transform
from toolkit.recipe import Layer

K, N, BLOCK = 152, 56, 16
TILES = {"one part": Tile(16, 32, 32), "two parts": Tile(16, 32, 32, split=2), LIBRARY: Tile(kernel=LIBRARY)}
DB = 40  # floats of 16 bits before them turn a level here and there


def quantized_linear(columns: int, how: Activation) -> QuantizedLinear:
    torch.manual_seed(0)
    return QuantizedLinear.from_linear(nn.Linear(K, columns).requires_grad_(False), how)


def floats(rows: Rows) -> Tensor:
    q, scale, zero_point = rows
    return (q.float() - zero_point[:, None]) * scale[:, None]


@pytest.mark.parametrize("name", ROTATED)
def test_levels_of_floats_and_what_is_multiplied(device: torch.device, name: str) -> None:
    x, source = random(2, 5, K), Quantize(ROTATED[name])
    given = cuda.CudaQuantize(source)(x.to(device))
    same_rows(given, source(x))
    layer = RowsLinear(quantized_linear(N, ROTATED[name]))
    assert_sqnr(cuda.CudaRowsLinear(layer).to(device)(given).cpu(), layer(source(x)), 110)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", ROTATED)
def test_levels_of_what_follows_a_linear(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, name: str, tile: str
) -> None:
    """Also by a scale that is given: a tile of the matrix kernel need not hold whole blocks."""
    monkeypatch.setattr(cuda.tiles, "tile_for", lambda *product: TILES[tile])
    how, x = ROTATED[name], random(18, K)
    gelu = RowsLinearGelu(quantized_linear(N, how), how, by_tanh=True)
    gate = RowsLinearGate(quantized_linear(2 * N, how), Gate("silu", False), how)
    rows, given = Quantize(how)(x), cuda.CudaQuantize(Quantize(how))(x.to(device))
    for made, source in ((cuda.CudaRowsLinearGelu(gelu), gelu), (cuda.CudaRowsLinearGate(gate), gate)):
        assert_sqnr(floats(unsigned(made.to(device)(given))), floats(source(rows)), DB)


def test_blocks_want_the_row_of_a_gelu_whole(device: torch.device) -> None:
    with pytest.raises(UsageError, match=f"at most {WIDEST} columns; layer has {WIDE}"):
        lower_to(graph_of(RowsLinearGelu(quantized(4, WIDE), ROTATED["rotated static"])), "int", device)


def test_fp8_has_none() -> None:
    with pytest.raises(ValueError, match="^Fp8Activation: rotation must be 0; got 16; quantize to int$"):
        Fp8Activation(rotation=16)


def rotate(linear: nn.Linear, layer: Layer, how: Activation) -> nn.Module:
    """What quantizes a linear, its weight and its rows rotated: the product is the same. A scale that is given grows as
    numbers of no pattern do."""
    whole, turned = linear.in_features // BLOCK * BLOCK, rotated(linear.weight.detach(), BLOCK)
    turned[:, :whole] /= BLOCK
    scale = None if how.scale is None else how.scale * BLOCK**0.5
    other = nn.Linear(linear.in_features, linear.out_features, device="meta")
    other.weight, other.bias = nn.Parameter(turned, requires_grad=False), linear.bias
    return QuantizedLinear.from_linear(other, replace(how, scale=scale, rotation=BLOCK))


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
@pytest.mark.parametrize("name, db", [("bert", 45), (tiny.TIED, 40), ("llama", 30)])
def test_whole_models(monkeypatch: pytest.MonkeyPatch, name: str, db: float, scheme: str) -> None:
    """as close to cpu's, and to the model in float, as without a rotation"""
    monkeypatch.setattr(import_module("toolkit.quantize"), "_quantized", rotate)
    model = build(name) if name == "llama" else tiny.build(name)
    data = [tiny.inputs(model, 3, 17, seed=seed) for seed in range(2)]
    # compensation and biases are of rows that are not rotated
    recipe = Recipe("int", scheme=scheme, symmetric=scheme == "static", compensate=False, correct_bias=False)
    graph, cpu = (transform(model, recipe, target, data=data) for target in ("cuda", "cpu"))
    (core,) = graph.packed.held
    made = [value for module in core.modules() for value in vars(module).values() if isinstance(value, Levels)]
    assert len(made) > 6 and all(levels.rotation == BLOCK for levels in made)
    real = data[0]["attention_mask"].bool()
    with torch.no_grad():
        have, want, exact = (one(**data[0])[0][real] for one in (graph, cpu, model))
    assert_sqnr(have, want, db)
    assert_sqnr(have, exact, 30 if scheme == "dynamic" else 20)  # its scale is wider than it need be
