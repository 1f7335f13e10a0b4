"""Causal attention of every kernel: a row looks at its own key and those before it."""

import pytest
import torch

from operators import attention as reference
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.samples import ops
from tests.operators.test_attention import SHARED, Levels, exact, least_db, mask, packed, random

CAUSAL = (False, True)  # precise, causal


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "mask"])
def test_the_reference_is_the_definition(masked: bool) -> None:
    qkv, starts, keep = random(40, 3, 8), packed(5, 0, 1, 20, 14), mask(40) if masked else None
    want = exact(qkv, starts, keep, 3, 0.3, causal=True)
    assert_sqnr(reference.attention(qkv, starts, keep, 3, 0.3, *CAUSAL), want, 120)


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "mask"])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 23, 24, 25, 31, 33, 47, 63, 64, 65, 81, 127, 130, 257, 300])
def test_any_length(kernel: str, rows: int, masked: bool) -> None:
    qkv, starts, keep = random(rows, 2, 32, rows), packed(rows), mask(rows) if masked else None
    have = ops.attention(qkv, starts, keep, 2, 32**-0.5, *CAUSAL)
    assert_sqnr(have, exact(qkv, starts, keep, 2, 32**-0.5, causal=True), least_db(kernel))


@pytest.mark.parametrize("d", [1, 7, 33, 64, 80, 128])
def test_any_head_size(kernel: str, d: int) -> None:
    qkv, starts, keep = random(171, 2, d).bfloat16(), packed(33, 1, 120, 17), mask(171)
    have = ops.attention(qkv, starts, keep, 2, d**-0.5, *CAUSAL)
    assert_sqnr(have, exact(qkv, starts, keep, 2, d**-0.5, causal=True), least_db(kernel))


def test_rows_before_the_first_key_are_zeros(kernel: str) -> None:
    """As of a batch that is padded on the left."""
    qkv, keep = random(120, 2, 32), torch.arange(120) >= 40
    keep[100:] = False
    have = ops.attention(qkv, packed(100, 20), keep, 2, 0.2, *CAUSAL)
    assert_equal_bits(have[:40], torch.zeros(40, 64), kernel)
    assert_equal_bits(have[100:], torch.zeros(20, 64), kernel)
    assert_sqnr(have[40:100], exact(qkv[40:100], packed(60), None, 2, 0.2, causal=True), least_db(kernel))


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["scores that fit", "scores that need their maximum"])
def test_what_comes_later_does_not_matter(kernel: str, size: float) -> None:
    qkv = size * random(140, 2, 32)
    whole = ops.attention(qkv, packed(140), None, 2, 0.2, *CAUSAL)
    for rows in (1, 30, 64, 100, 139):
        alone = ops.attention(qkv[:rows], packed(rows), None, 2, 0.2, *CAUSAL)
        assert_sqnr(whole[:rows].contiguous(), alone, least_db(kernel))
    assert_sqnr(whole, exact(qkv, packed(140), None, 2, 0.2, causal=True), 40 if "bf16" in kernel else 90)


def test_precise_is_float32_with_every_kernel(kernel: str) -> None:
    qkv, starts, keep = random(150, 3, 32), packed(100, 30, 20), mask(150)
    have = ops.attention(qkv, starts, keep, 3, 0.2, True, True)
    assert_sqnr(have, exact(qkv, starts, keep, 3, 0.2, causal=True), 100)


def test_int8_is_attention_then_quantize(kernel: str, isa: str, levels: Levels) -> None:
    args = random(150, 3, 32), packed(100, 30, 20), mask(150), 3, 0.2
    want = ops.quantize_per_token(ops.attention(*args, *CAUSAL), *levels)
    for one, other in zip(ops.attention_int8(*args, *levels, *CAUSAL), want, strict=True):
        assert_equal_bits(one, other, kernel)


@pytest.mark.parametrize("shared", SHARED)
def test_threads_do_not_change_it(kernel: str, threads: None, shared: str) -> None:
    lengths, heads = SHARED[shared]
    args = random(sum(lengths), heads, 32), packed(*lengths), mask(sum(lengths)), heads, 0.2, *CAUSAL
    torch.set_num_threads(1)
    one = ops.attention(*args)
    for count in (2, 3):
        torch.set_num_threads(count)
        assert_equal_bits(ops.attention(*args), one, kernel)
