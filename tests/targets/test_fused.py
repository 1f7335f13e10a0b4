"""The fused modules' reference forwards against what they stand for; which modules a target may swap."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from targets._attention import Attention, AttentionRows, attend
from targets._fused import NormRows, Quantize, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import Activation, QuantizedLinear
from targets._swap import outermost, swap_modules
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr

WIDTH, HEADS = 24, 4


@pytest.fixture(params=ACTIVATIONS)
def linear(request: pytest.FixtureRequest) -> QuantizedLinear:
    torch.manual_seed(0)
    return QuantizedLinear.from_linear(nn.Linear(WIDTH, 10), ACTIVATIONS[request.param])


@pytest.fixture(params=ACTIVATIONS)
def how(request: pytest.FixtureRequest) -> Activation:
    """of the rows that come out"""
    return ACTIVATIONS[request.param]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 2 + 0.3


def same_rows(actual: tuple[Tensor, ...], x: Tensor, how: Activation) -> None:
    for have, want in zip(actual, torch.ops.opswap.quantize_per_token(x, *how.levels()), strict=True):
        assert_equal_bits(have, want)


@pytest.mark.parametrize("shape", [(7, WIDTH), (2, 3, WIDTH), (0, WIDTH)], ids=str)
def test_quantize_and_linear_are_the_quantized_linear(linear, shape):
    x = random(*shape)
    rows = Quantize(linear.activation)(x)
    same_rows(rows, x, linear.activation)
    assert_equal_bits(RowsLinear(linear)(rows), linear(x).view(-1, 10))


def test_gelu(linear, how):
    x = random(7, WIDTH)
    same_rows(RowsLinearGelu(linear, how)(Quantize(linear.activation)(x)), F.gelu(linear(x)), how)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("act", ["gelu", "gelu_tanh", "silu"])
def test_gate(linear, how, act, second):
    x = random(7, WIDTH)
    a, b = linear(x).chunk(2, -1)[:: -1 if second else 1]
    expected = b * (F.silu(a) if act == "silu" else F.gelu(a, approximate="tanh" if act == "gelu_tanh" else "none"))
    gate = Gate(act, second)
    assert_equal_bits(gate(linear(x)), expected)
    same_rows(RowsLinearGate(linear, gate, how)(Quantize(linear.activation)(x)), expected, how)


def test_add_norm(linear, how):
    x, residual, gamma, beta = random(7, WIDTH), random(7, 10), random(10), random(10)
    rows = Quantize(linear.activation)(x)
    expected = F.layer_norm(linear(x) + residual, (10,), gamma, beta, 1e-3)
    y, quantized = RowsLinearAddNorm(linear, gamma, beta, 1e-3, how)(rows, residual)
    assert_equal_bits(y, expected)
    same_rows(quantized, expected, how)
    assert_equal_bits(RowsLinearAddNorm(linear, gamma, beta, 1e-3, None)(rows, residual), expected)


@pytest.mark.parametrize("smooth", [None, (random(10) - 1, random(10))], ids=["plain", "smoothed"])
def test_norm(how, smooth):
    x, gamma, beta = random(7, 10), random(10), random(10)
    expected = F.layer_norm(x, (10,), gamma, beta, 1e-3)
    y, rows = NormRows(gamma, beta, 1e-3, how, smooth)(x)
    assert_equal_bits(y, expected)
    same_rows(rows, expected if smooth is None else torch.addcmul(smooth[1], expected, smooth[0]), how)
    assert_equal_bits(NormRows(gamma, beta, 1e-3, None)(x), expected)


def attention(qkv: Tensor, starts: list[int], keep: Tensor, scale: float) -> Tensor:
    """softmax(scale · query · keyᵀ) · value in float64, one head of one token at a time"""
    query, key, value = qkv.double().view(-1, 3, HEADS, WIDTH // HEADS).unbind(1)
    out = torch.zeros(len(qkv), HEADS, WIDTH // HEADS, dtype=torch.float64)
    for first, last in zip(starts, starts[1:], strict=False):
        looked_at = [i for i in range(first, last) if keep[i]]
        for i in range(first, last if looked_at else first):
            for head in range(HEADS):
                weights = (scale * key[looked_at, head] @ query[i, head]).softmax(0)
                out[i, head] = weights @ value[looked_at, head]
    return out.flatten(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kept", ["all", "some", "none of one sequence"])
def test_attention(kept, dtype):
    starts, qkv = [0, 5, 5, 6, 11], random(11, 3 * WIDTH).to(dtype)
    keep = torch.ones(11, dtype=torch.bool)
    if kept != "all":
        keep[[1, 4, 7, 10]] = False
    if kept == "none of one sequence":
        keep[5] = False
    given = (qkv, torch.tensor(starts, dtype=torch.int32), None if kept == "all" else keep)
    y = attend(*given, HEADS, 0.4, False)
    assert_equal_bits(Attention(HEADS, 0.4)(*given), y.to(dtype))
    later = attend(*given, HEADS, 0.4, True)
    assert_equal_bits(Attention(HEADS, 0.4, causal=True)(*given), later.to(dtype))
    assert_sqnr(y, attention(qkv, starts, keep, 0.4).float(), 110.0)
    assert kept != "none of one sequence" or not y[5].any()
    for how in ACTIVATIONS.values():
        same_rows(AttentionRows(HEADS, 0.4, how)(*given), y, how)
        same_rows(AttentionRows(HEADS, 0.4, how, causal=True)(*given), later, how)


def test_attention_is_an_operator_that_can_be_exported():
    given = (random(6, 3 * WIDTH), torch.tensor([0, 2, 6], dtype=torch.int32))
    for keep in (None, torch.tensor([True, False, True, True, False, True])):
        torch.library.opcheck(torch.ops.opswap_reference.attention.default, (*given, keep, HEADS, 0.5, True))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bare = QuantizedLinear.from_linear(nn.Linear(4, 4), Activation())
        self.fused = RowsLinearGelu(QuantizedLinear.from_linear(nn.Linear(4, 4), Activation()), Activation())
        self.norm = RowsLinear(QuantizedLinear.from_linear(nn.Linear(4, 4), Activation()))


def test_a_fused_module_is_swapped_as_a_whole():
    model = Model()
    graph = fx.Graph()
    for name in ("bare", "fused", "norm"):
        graph.call_module(name)
    graph.output(())
    module = fx.GraphModule(model, graph)
    assert {name for name, _ in outermost(module)} == {"", "bare", "fused", "norm"}
    given = []
    makers = {
        QuantizedLinear: lambda source: given.append(source) or nn.Identity(),
        RowsLinearGelu: lambda source: nn.Tanh(),
    }
    assert swap_modules(module, makers) == 2
    assert given == [model.bare] and type(module.fused) is nn.Tanh and type(module.norm.linear) is QuantizedLinear
