"""Each target's int8 linear equals the reference, bit for bit, at odd sizes, extremes and bad values."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from operators import kernels, reference
from targets import _packed, cpu
from targets._linear import Activation, QuantizedLinear
from targets.aie import linear as aie
from tests.activations import ACTIVATIONS

MAKERS = {"cpu": cpu.IntLinear, "customcpu": _packed.PackedLinear, "aie": aie.AieLinear}
SHAPES = [(1, 1, 1), (1, 1, 9), (1, 3, 5), (2, 7, 1), (5, 8, 8), (7, 13, 9), (16, 64, 64), (33, 65, 66)]
SHAPES += [(1, 384, 100), (9, 401, 43)]


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    kernels.load()


def layer(k: int, n: int, how: str, bias: bool = True) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(1000 * k + n)
    linear = nn.Linear(k, n, bias=bias)
    for parameter in linear.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return QuantizedLinear.from_linear(linear, ACTIVATIONS[how])


def rows(m: int, k: int) -> Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(100 * m + k)) * 3 + 0.5


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7e7), b.nan_to_num(7e7))


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.parametrize("target", MAKERS)
def test_equals_the_reference(target, m, k, n, how):
    source, x = layer(k, n, how), rows(m, k)
    assert torch.equal(MAKERS[target](source)(x), source(x))


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("target", MAKERS)
def test_leading_sizes_no_bias_and_strides(target, how):
    source = layer(21, 10, how, bias=False)
    made = MAKERS[target](source)
    x = rows(6, 21)
    assert torch.equal(made(x.view(2, 1, 3, 21)), source(x).view(2, 1, 3, 10))
    assert torch.equal(made(x[0]), source(x[:1])[0])
    assert torch.equal(made(x.t().contiguous().t()), source(x))
    assert made(x[:0]).shape == (0, 10)
    assert made(x[:0].view(0, 4, 21)).shape == (0, 4, 10)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("target", MAKERS)
def test_bad_rows_are_nan_and_leave_the_others_alone(target, how):
    source, x = layer(40, 12, how), rows(7, 40)
    x[1, 3], x[2, 0], x[3, 39] = torch.nan, torch.inf, -torch.inf
    x[4] = 0
    x[5] = 1e-45
    x[6, 0], x[6, 1] = 3e38, -3e38
    y = MAKERS[target](source)(x)
    assert same(y, source(x))
    assert y[1:4].isnan().all() and y[[0, 4, 5]].isfinite().all()


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("k", [64, 1000, 4099])
@pytest.mark.parametrize("target", MAKERS)
def test_extremes_do_not_saturate(target, k, how):
    signs = torch.tensor([1, 1, -1, 1]).repeat(k // 4 + 1)[:k]
    weight = torch.stack([127 * torch.ones(k), -127 * torch.ones(k), 127 * signs]).to(torch.int8)
    source = QuantizedLinear(weight, torch.ones(3), None, ACTIVATIONS[how])
    x = torch.stack([torch.ones(k), -torch.ones(k), signs.float()])
    assert torch.equal(MAKERS[target](source)(x), source(x))


@pytest.mark.parametrize("how", ACTIVATIONS)
def test_cpu_quantizes_rows_as_the_reference_does(how):
    x = rows(50, 33)
    x[3] = 0
    x[4, 4] = torch.nan
    x[5] = x[5].abs()
    x[6] = -x[6].abs()
    q, scale, zero = cpu.quantize_rows(x, ACTIVATIONS[how])
    expected_q, expected_scale, expected_zero = reference.quantize_per_token(x, *ACTIVATIONS[how].levels())
    assert torch.equal(q.to(torch.int32) + 128, expected_q.to(torch.int32))
    assert same(scale[:, 0], expected_scale)
    assert torch.equal(expected_zero, torch.full_like(expected_zero, 128) if zero is None else zero[:, 0] + 128)


@pytest.mark.parametrize(
    "wrong, line",
    [
        ({"scale": 0.0}, "scale must be above 0; got 0.0; leave it out"),
        ({"scale": -1.0}, "fixed_scale must be 0"),
        ({"scale": torch.nan}, "fixed_scale must be 0"),
        ({"symmetric": False, "scale": 1.0, "zero_point": 256}, r"must lie in 0\.\.255; got 256"),
        ({"scale": 1.0, "zero_point": 127}, "symmetric wants the zero point 128; got 127"),
    ],
    ids=["zero", "negative", "NaN", "zero point", "symmetric"],
)
def test_activations_that_cannot_be(wrong, line):
    with pytest.raises(ValueError, match=line):
        Activation(**wrong)


@pytest.mark.parametrize("exact", [True, False], ids=["int_mm", "float64"])
def test_cpu_products_are_exact(exact):
    exact = exact and cpu.int_mm_is_exact()
    generator = torch.Generator().manual_seed(4)
    for m, k, n in [(1, 4, 1), (3, 5, 2), (17, 66_311, 3), (2, 64, 65)]:
        a = torch.randint(-128, 128, (m, k), dtype=torch.int8, generator=generator)
        b = torch.randint(-127, 128, (n, k), dtype=torch.int8, generator=generator)
        assert torch.equal(cpu.int_mm(a, b, exact), (a.long() @ b.long().t()).to(torch.int32)), (m, k, n)


def test_cpu_notices_an_int_mm_that_saturates():
    """oneDNN held to AVX2 adds in int16: the probe has to see it, and the layer has to stay exact."""
    code = (
        "import torch; from targets import cpu; a = torch.full((3, 64), -128, dtype=torch.int8);"
        "b = torch.full((5, 64), 127, dtype=torch.int8);"
        "ok = torch.equal(cpu.int_mm(a, b, cpu.int_mm_is_exact()), a.int() @ b.int().t());"
        "print(ok, cpu.int_mm_is_exact() or cpu.execution('int').reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("True ")
    assert "True True" in done.stdout or "saturates" in done.stdout
