"""The reference against the definition in numpy's float32, one rounding for each operation; weights and packing."""

import numpy as np
import pytest
import torch

from operators import quantize_weight, reference, weight_sum
from operators.weights import WeightError
from tests.checks import assert_equal_bits, assert_sqnr

F = np.float32


def quantize_in_numpy(row: np.ndarray, symmetric: bool) -> tuple[np.ndarray, np.float32, int]:
    if symmetric:
        scale = F(np.abs(row).max() / F(127)) or F(1)
        q = np.clip(np.rint(row * (F(1) / scale)), -127, 127) + 128
        return q.astype(np.uint8), scale, 128
    low, high = min(row.min(), F(0)), max(row.max(), F(0))
    scale = F((high - low) / F(255)) or F(1)
    inverse = F(1) / scale
    zero = int(np.clip(np.rint(-low * inverse), 0, 255))
    return np.clip(np.rint(row * inverse) + zero, 0, 255).astype(np.uint8), scale, zero


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_quantize_per_token(symmetric: bool) -> None:
    x = torch.randn(200, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 200)[:, None]
    x[0], x[1], x[2] = 0, x[1].abs(), -x[2].abs()
    q, scale, zero = reference.quantize_per_token(x, symmetric)
    for i, row in enumerate(x.numpy()):
        want_q, want_scale, want_zero = quantize_in_numpy(row, symmetric)
        assert_equal_bits(q[i], torch.from_numpy(want_q), f"row {i}")
        assert scale[i].item() == want_scale and zero[i].item() == want_zero, f"row {i}"


@pytest.mark.parametrize("symmetric, scale, zero", [(True, 0.1, 128), (False, 0.037, 0), (False, 1e-37, 201)])
def test_quantize_by_one_scale(symmetric: bool, scale: float, zero: int) -> None:
    x = torch.randn(200, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-38, 38, 200)[:, None]
    x[0], x[1] = 0, torch.arange(-16, 17) * scale / 2  # ties
    x[2, 0], x[3, 1], x[4, 2] = torch.nan, torch.inf, -torch.inf
    q, scales, zeros = reference.quantize_per_token(x, symmetric, scale, zero)
    inverse, bad = F(1) / F(scale), [2, 3, 4]
    with np.errstate(over="ignore"):
        level = np.rint(x.numpy() * inverse)
    want = torch.from_numpy(np.clip(level + zero, 1 if symmetric else 0, 255))
    want[bad] = zero
    assert_equal_bits(q, want.to(torch.uint8))
    assert (zeros == zero).all() and scales[bad].isnan().all()
    assert (scales[[row for row in range(200) if row not in bad]] == F(scale)).all()


def test_linear_rounds_the_scales_first() -> None:
    x, w = torch.randn(9, 20), torch.randn(11, 20)
    q, scale = quantize_weight(w)
    bias = torch.randn(11)
    qx, sx, zx = reference.quantize_per_token(x, True)
    acc = ((qx.long() - zx.long()[:, None]) @ q.long().t()).numpy().astype(F)
    want = acc * (sx.numpy()[:, None] * scale.numpy()) + bias.numpy()
    have = reference.linear_int8(x, reference.pack_weight(q), weight_sum(q), scale, bias, True)
    assert_equal_bits(have, torch.from_numpy(want))


@pytest.mark.parametrize("n, k", [(1, 1), (63, 5), (64, 4), (65, 66), (130, 3), (0, 7)])
def test_packing_and_back(n: int, k: int) -> None:
    w = torch.randint(-127, 128, (n, k), dtype=torch.int8)
    packed = reference.pack_weight(w)
    assert packed.shape == (-(-n // 64), -(-k // 4), 64, 4)
    assert_equal_bits(reference.unpack_weight(packed, n, k), w)
    assert packed.abs().long().sum() == w.abs().long().sum(), "the padding is zero"
    if n > 1 and k > 2:
        assert packed[(n - 1) // 64, (k - 1) // 4, (n - 1) % 64, (k - 1) % 4] == w[n - 1, k - 1]


def test_quantize_weight() -> None:
    w = torch.randn(20, 300, generator=torch.Generator().manual_seed(1))
    w[3], w[5, 299] = 0, -9
    q, scale = quantize_weight(w)
    assert scale[3] == 1 and not q[3].any() and q[5, 299] == -127
    assert (q.abs().amax(1)[torch.arange(20) != 3] == 127).all()
    assert_sqnr(q * scale[:, None], w, at_least_db=38)
    assert_equal_bits(weight_sum(q), q.long().sum(1).int())
    assert_equal_bits(quantize_weight(w.to(torch.bfloat16))[0], quantize_weight(w.to(torch.bfloat16).float())[0])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_quantize_weight_of_nothing(shape: tuple[int, int]) -> None:
    q, scale = quantize_weight(torch.zeros(shape))
    assert q.shape == shape and q.dtype == torch.int8 and torch.equal(scale, torch.ones(shape[0]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_quantize_weight_refuses_one_value_that_is_not_finite(bad: float) -> None:
    w = torch.randn(70, 300)
    w[69, 298] = bad
    with pytest.raises(WeightError, match="quantize_weight: weights must be finite; got NaN or infinity; "):
        quantize_weight(w)


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int8), torch.full((2, 2), torch.nan)])
def test_quantize_weight_refuses(weight: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="quantize_weight: .*; got .*; ") as error:
        quantize_weight(weight)
    assert "\n" not in str(error.value)
