"""The NPU's linears: int32 out is the reference, in both forms; narrow outputs come near it."""

import pytest
import torch
from torch import Tensor, nn

from operators import kernels
from targets._fused import RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import QuantizedLinear
from targets.aie import settings
from targets.aie.linear import (
    AieLinear,
    AieRowsLinear,
    AieRowsLinearAddNorm,
    AieRowsLinearGate,
    AieRowsLinearGelu,
    shift_for,
)
from targets.aie.srs import OUTPUTS
from tests.activations import ACTIVATIONS
from tests.checks import sqnr

K, N = 130, 70


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    kernels.load()


def made(how: str) -> QuantizedLinear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return QuantizedLinear.from_linear(nn.Linear(K, N), ACTIVATIONS[how])


def inputs() -> Tensor:
    return torch.randn(9, K, generator=torch.Generator().manual_seed(6)) + 0.3


def everything(source: QuantizedLinear, how: str) -> list[Tensor]:
    """What every linear of the target makes of the same rows, as plain tensors"""
    x, gamma = inputs(), torch.ones(N)
    rows = torch.ops.opswap.quantize_per_token(x, *source.activation.levels())
    residual = torch.randn(9, N, generator=torch.Generator().manual_seed(7))
    after = ACTIVATIONS[how]
    normed = AieRowsLinearAddNorm(RowsLinearAddNorm(source, gamma, gamma, 1e-5, after))(rows, residual)
    flat = [AieLinear(source)(x.view(3, 3, K)).view(9, N), AieRowsLinear(RowsLinear(source))(rows)]
    gated = AieRowsLinearGate(RowsLinearGate(source, Gate("silu", second=True), after))(rows)
    return [*flat, *AieRowsLinearGelu(RowsLinearGelu(source, after))(rows), *gated, normed[0], *normed[1]]


@pytest.mark.parametrize("device", ["xdna", "xdna2"])
@pytest.mark.parametrize("how", ACTIVATIONS)
def test_the_walk_equals_the_operators_of_customcpu(monkeypatch, how, device):
    fast = everything(made(how), how)
    assert torch.equal(fast[0], made(how)(inputs()))
    monkeypatch.setenv(settings.FORM, "walk")
    monkeypatch.setenv(settings.DEVICE, device)
    for one, other in zip(fast, everything(made(how), how), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("out, least", [("int16", 55), ("int8", 15)])
def test_narrow_outputs_are_near_and_the_same_in_both_forms(monkeypatch, how, out, least):
    exact = made(how)(inputs())
    monkeypatch.setenv(settings.OUTPUT, out)
    fast = everything(made(how), how)
    assert least < sqnr(fast[0], exact) < 100
    monkeypatch.setenv(settings.FORM, "walk")
    for one, other in zip(fast, everything(made(how), how), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("out", OUTPUTS)
def test_the_shift_is_the_least_that_never_saturates(out):
    weight = torch.randint(-127, 128, (5, 300), dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    most = 128 * int(weight.int().abs().sum(1).max())
    shift, limit = shift_for(weight, out), torch.iinfo(OUTPUTS[out]).max

    def rounded(by: int) -> int:
        return (most + (2**by // 2)) // 2**by

    assert rounded(shift) <= limit and (shift == 0 or rounded(shift - 1) > limit)
    assert (shift == 0) == (out == "int32")


def test_no_weights_need_no_shift():
    assert shift_for(torch.zeros(0, 4, dtype=torch.int8), "int8") == 0
    assert shift_for(torch.zeros(3, 4, dtype=torch.int8), "int8") == 0
