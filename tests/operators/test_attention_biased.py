"""Attention with a bias on its scores, of every kernel, against the float reference: shapes, masks, extremes."""

import pytest
import torch
from torch import Tensor

from operators import attention_biased as reference
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.operators.samples import ops
from tests.operators.test_attention import least_db, random

LOWEST = torch.finfo(torch.float32).min


def bias_of(*shape: int, seed: int = 1) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(kernel: str, qkv: Tensor, bias: Tensor, heads: int, scale: float = 0.2) -> Tensor:
    have = ops.attention_biased(qkv, bias, heads, scale)
    assert_sqnr(have, reference.attention_biased(qkv, bias, heads, scale), least_db(kernel))
    return have


def test_the_reference_is_pytorchs_attention() -> None:
    qkv, bias = random(30, 3, 8), bias_of(2, 3, 15, 15)
    q, k, v = qkv.view(2, 15, 3, 3, 8).permute(2, 0, 3, 1, 4)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, bias, scale=0.3)
    assert_sqnr(reference.attention_biased(qkv, bias, 3, 0.3), want.transpose(1, 2).reshape(30, 24), 120)


@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 32, 33, 48, 64, 80, 100, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_any_head_size(kernel: str, d: int, dtype: torch.dtype) -> None:
    check(kernel, random(74, 2, d).to(dtype), bias_of(2, 2, 37, 37), 2, d**-0.5)


@pytest.mark.parametrize("length", [*range(1, 36), 47, 48, 49, 63, 64, 65, 80, 81, 127, 130, 255, 257])
def test_any_length(kernel: str, length: int) -> None:
    check(kernel, random(length, 2, 32, length), bias_of(1, 2, length, length), 2)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 20), (3, 1, 1, 20), (1, 4, 20, 20), (3, 1, 20, 20), (1, 1, 20, 20)], ids=str
)
def test_one_bias_for_several(kernel: str, shape: tuple[int, ...]) -> None:
    qkv, bias = random(60, 4, 32), bias_of(*shape)
    have = check(kernel, qkv, bias, 4)
    whole = bias.expand(3, 4, 20, 20)
    for same in (whole, whole.contiguous(), whole.transpose(2, 3).contiguous().transpose(2, 3)):
        assert_equal_bits(ops.attention_biased(qkv, same, 4, 0.2), have, kernel)


@pytest.mark.parametrize("low", [-torch.inf, LOWEST, -1e4], ids=str)
def test_a_mask_hides_what_it_hides(kernel: str, low: float) -> None:
    qkv, shown = random(120, 2, 32), torch.rand(2, 1, 60, 60, generator=torch.Generator().manual_seed(0)) < 0.5
    shown |= torch.eye(60, dtype=torch.bool)
    bias = torch.where(shown, 0.0, low)
    want = check(kernel, qkv, bias, 2)
    near = torch.where((torch.arange(60) - torch.arange(60)[:, None]).abs() <= 4, 0.0, low)
    check(kernel, qkv, near[None, None], 2)
    hidden = qkv.clone()
    hidden[:, 64:128] = torch.where(torch.arange(120)[:, None] == 7, 9.0, qkv[:, 64:128])
    bias[0, :, :, 7] = low
    have = ops.attention_biased(hidden, bias, 2, 0.2), ops.attention_biased(qkv, bias, 2, 0.2)
    assert_sqnr(have[0][8:60], have[1][8:60], least_db(kernel))
    assert want.isfinite().all()


def test_nothing_to_look_at_gives_zeros(kernel: str) -> None:
    bias = bias_of(1, 2, 50, 50)
    bias[:, :, 11] = -torch.inf
    have = check(kernel, random(50, 2, 32), bias, 2)
    assert_equal_bits(have[11], torch.zeros(64), kernel)


@pytest.mark.parametrize("batch", [0, 1])
def test_no_rows(kernel: str, batch: int) -> None:
    qkv, bias = random(0, 2, 32), bias_of(batch, 2, 5, 5)
    for operator in (ops.attention_biased, reference.attention_biased):
        assert operator(qkv, bias, 2, 0.2).shape == (0, 64)


@pytest.mark.parametrize("shift", [-3e4, -100.0, 100.0, 3e4], ids=str)
def test_a_bias_for_all_keys_changes_nothing(kernel: str, shift: float) -> None:
    """The bias is far from zero, and the scores with it; float32 has few digits left for them at 3e4."""
    qkv, bias = random(70, 2, 32), bias_of(1, 2, 70, 70).round()
    want = ops.attention_biased(qkv, bias, 2, 0.2)
    db = min(least_db(kernel), 45 if abs(shift) > 1e3 else 100)
    assert_sqnr(ops.attention_biased(qkv, bias + shift, 2, 0.2), want, db)


@pytest.mark.parametrize("scale", [0.5, 32.0, 512.0])
def test_huge_scores(kernel: str, scale: float) -> None:
    """Small whole numbers are exact in bfloat16; float32 rounds scores of 1e4 to 1e-3."""
    qkv = random(100, 2, 32)
    qkv[:, :128] = torch.randint(-2, 3, (100, 128), generator=torch.Generator().manual_seed(0)).float()
    args = qkv.bfloat16(), bias_of(1, 2, 100, 100).round(), 2, scale
    have = ops.attention_biased(*args)
    assert have.isfinite().all()
    assert_sqnr(have, reference.attention_biased(*args), 49 if "bf16" in kernel else 75)


@pytest.mark.parametrize("size", [2.45, 3.0, 3.12, 3.2, 3.3, 8.0])
def test_small_values_where_scores_are_far_below_their_bound(kernel: str, size: float) -> None:
    """float32 rounds scores of -360 to 3e-5."""
    qkv = random(70, 2, 32) * 1e-9
    qkv[:, :64], qkv[:, 64:128] = size, -size
    args = qkv, bias_of(1, 2, 70, 70), 2, 32**-0.5
    assert_sqnr(ops.attention_biased(*args), reference.attention_biased(*args), min(least_db(kernel), 90))


def test_nan_stays_in_its_row(kernel: str) -> None:
    qkv, bias = random(60, 2, 32), bias_of(2, 2, 30, 30)
    clean = ops.attention_biased(qkv, bias, 2, 0.2)
    bias[1, 1, 5, 20] = torch.nan
    have = ops.attention_biased(qkv, bias, 2, 0.2)
    assert have[35, 32:].isnan().all()
    have[35, 32:] = clean[35, 32:]
    assert_equal_bits(have, clean, kernel)


def test_precise_is_float32_with_every_kernel(kernel: str) -> None:
    qkv, bias = random(90, 3, 32), bias_of(1, 3, 45, 45)
    assert_sqnr(ops.attention_biased(qkv, bias, 3, 0.2, True), reference.attention_biased(qkv, bias, 3, 0.2), 100)


def test_threads_do_not_change_it(kernel: str, threads: None) -> None:
    args = random(130, 5, 32), bias_of(1, 5, 130, 130), 5, 0.2
    torch.set_num_threads(1)
    one = ops.attention_biased(*args)
    for count in (2, 3):
        torch.set_num_threads(count)
        assert_equal_bits(ops.attention_biased(*args), one, kernel)


@pytest.mark.parametrize("shape", [(1, 1, 20), (1, 3, 20, 20), (4, 1, 20, 20), (1, 1, 5, 20), (1, 1, 1, 7)], ids=str)
@pytest.mark.parametrize("operator", [ops.attention_biased, reference.attention_biased], ids=["kernel", "reference"])
def test_refuses_a_bias_that_does_not_fit(operator, shape: tuple[int, ...]) -> None:
    assert_refuses(operator, "attention_biased", random(60, 2, 32), torch.zeros(shape), 2, 0.2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 20, 64, 200])
def test_a_window_of_tokens(kernel: str, window: int, causal: bool) -> None:
    """Most keys are far away from most rows, and are left out."""
    length = 300
    away = torch.arange(length)[:, None] - torch.arange(length)
    shown = (away <= window) & (away >= (0 if causal else -window))
    bias, qkv = torch.where(shown, bias_of(length, length), -torch.inf)[None, None], random(length, 2, 32)
    check(kernel, qkv, bias, 2)


def test_rows_that_look_at_nothing_among_others(kernel: str) -> None:
    shown = torch.zeros(200, 200, dtype=torch.bool)
    shown[30, 170], shown[100:110, 3:150] = True, True
    bias = torch.where(shown, bias_of(200, 200), -torch.inf)[None, None]
    have = check(kernel, random(200, 2, 32), bias, 2)
    assert not have[~shown.any(1)].any()
