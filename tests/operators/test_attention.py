"""Attention of every kernel against the float reference: any head size and length, packing, masks, extremes.

Rounding to bfloat16 leaves 8 bits, noise of about -57 dB. The values, the probabilities, and with twice the weight
the scores (queries and keys, at a standard deviation of one) add up to -51 dB, more where few keys average it.
"""

import pytest
import torch
from torch import Tensor

from operators import attention as reference
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.samples import ops

Levels = tuple[bool, float, int, int]


def least_db(kernel: str) -> float:
    return 47 if "bf16" in kernel else 122  # 48.4 and 126 were the least seen


def packed(*lengths: int) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def random(rows: int, heads: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3 * heads * d, generator=torch.Generator().manual_seed(seed))


def mask(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6


def exact(qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, causal: bool = False) -> Tensor:
    """The definition once more, in float64: one product of all rows, and a mask for who sees whom."""
    t, h = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.double().view(t, 3, heads, h // heads).permute(1, 2, 0, 3)
    where = torch.bucketize(torch.arange(t), starts[1:].long(), right=True)
    allowed = (where[:, None] == where) & (keep if keep is not None else torch.ones(t, dtype=torch.bool))
    allowed = allowed.tril() if causal else allowed
    scores = (scale * q @ k.transpose(1, 2)).masked_fill(~allowed, -torch.inf)
    return (scores.softmax(-1).nan_to_num(0) @ v).transpose(0, 1).reshape(t, h)


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "mask"])
def test_the_reference_is_the_definition(masked: bool) -> None:
    qkv, starts, keep = random(40, 3, 8), packed(5, 0, 1, 20, 14), mask(40) if masked else None
    assert_sqnr(reference.attention(qkv, starts, keep, 3, 0.3), exact(qkv, starts, keep, 3, 0.3), 120)


@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 31, 32, 33, 48, 64, 80, 96, 100, 128, 144, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_any_head_size(kernel: str, d: int, dtype: torch.dtype) -> None:
    qkv, starts, keep = random(71, 2, d).to(dtype), packed(33, 1, 20, 17), mask(71)
    have = ops.attention(qkv, starts, keep, 2, d**-0.5)
    assert_sqnr(have, reference.attention(qkv, starts, keep, 2, d**-0.5), least_db(kernel))


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "mask"])
@pytest.mark.parametrize("rows", [*range(1, 36), 47, 48, 49, 63, 64, 65, 79, 80, 81, 127, 130, 255, 257, 300])
def test_any_length(kernel: str, rows: int, masked: bool) -> None:
    qkv, starts, keep = random(rows, 2, 32, rows), packed(rows), mask(rows) if masked else None
    have = ops.attention(qkv, starts, keep, 2, 32**-0.5)
    assert_sqnr(have, reference.attention(qkv, starts, keep, 2, 32**-0.5), least_db(kernel))


@pytest.mark.parametrize("heads, d", [(12, 32), (12, 64), (5, 80)])
def test_a_sequence_alone_equals_itself_in_a_batch(kernel: str, heads: int, d: int) -> None:
    lengths = [20, 384, 0, 77, 1, 130]
    qkv, starts = random(sum(lengths), heads, d), packed(*lengths)
    keep = mask(len(qkv)) | (torch.arange(len(qkv)) == starts[4])
    whole = ops.attention(qkv, starts, keep, heads, 0.2)
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        part = slice(first, last)
        alone = ops.attention(qkv[part], packed(last - first), keep[part], heads, 0.2)
        assert_equal_bits(whole[part].contiguous(), alone, f"{kernel}, rows {first}..{last}")


def test_masked_keys_do_not_matter(kernel: str) -> None:
    qkv, starts, keep = random(60, 2, 32), packed(25, 35), mask(60)
    want = ops.attention(qkv, starts, keep, 2, 0.2)
    qkv[~keep, 64:] = torch.nan
    assert_equal_bits(ops.attention(qkv, starts, keep, 2, 0.2), want, kernel)


@pytest.mark.parametrize("causal", [False, True], ids=["both directions", "causal"])
def test_a_mask_that_keeps_all_changes_nothing(kernel: str, levels: Levels, causal: bool) -> None:
    """Of some sequences, or of all."""
    qkv, starts, keep = random(150, 3, 32), packed(70, 1, 60, 19), mask(150)
    want = ops.attention(qkv, starts, None, 3, 0.2, False, causal)
    keep[:131] = True
    assert_equal_bits(ops.attention(qkv, starts, keep, 3, 0.2, False, causal)[:131], want[:131], kernel)
    keep[:] = True
    assert_equal_bits(ops.attention(qkv, starts, keep, 3, 0.2, False, causal), want, kernel)
    rows = (ops.attention_int8(qkv, starts, kept, 3, 0.2, *levels, False, causal) for kept in (keep, None))
    for one, other in zip(*rows, strict=True):
        assert_equal_bits(one, other, kernel)


def test_no_keys_give_zeros(kernel: str) -> None:
    qkv, keep = random(50, 2, 32), torch.arange(50) >= 30
    have = ops.attention(qkv, packed(30, 20), keep, 2, 0.2)
    assert_equal_bits(have[:30], torch.zeros(30, 64), kernel)
    assert_sqnr(have, reference.attention(qkv, packed(30, 20), keep, 2, 0.2), least_db(kernel))


@pytest.mark.parametrize("starts", [[0], [0, 0], [0, 0, 0]], ids=str)
def test_no_rows(kernel: str, levels: Levels, starts: list[int]) -> None:
    at = torch.tensor(starts, dtype=torch.int32)
    assert ops.attention(torch.empty(0, 96), at, None, 2, 0.2).shape == (0, 32)
    assert [len(t) for t in ops.attention_int8(torch.empty(0, 96), at, None, 2, 0.2, *levels)] == [0, 0, 0]


@pytest.mark.parametrize("scale", [0.125, 0.5, 1.0, 32.0, 512.0])
def test_huge_scores(kernel: str, scale: float) -> None:
    """Scores up to 1e4. Small whole numbers are exact in bfloat16; float32 rounds scores of 1e4 to 1e-3."""
    qkv = random(100, 2, 32)
    qkv[:, :128] = torch.randint(-2, 3, (100, 128), generator=torch.Generator().manual_seed(0)).float()
    args = qkv.bfloat16(), packed(100), None, 2, scale
    have = ops.attention(*args)
    assert have.isfinite().all()
    assert_sqnr(have, reference.attention(*args), 49 if "bf16" in kernel else 75)


@pytest.mark.parametrize("sign", [1, -1], ids=["all alike", "all opposite"])
@pytest.mark.parametrize("size", [1.0, 2.45, 2.6, 3.0, 3.12, 3.2, 3.3, 8.0, 100.0])
@pytest.mark.parametrize("values", [1.0, 1e-9])
def test_scores_at_their_bound(kernel: str, size: float, sign: int, values: float) -> None:
    """Queries and keys in line: all scores are as large (or small) as their bound says, and equal."""
    qkv = random(70, 2, 32) * values
    qkv[:, :64], qkv[:, 64:128] = size, sign * size
    want = qkv[:, 128:].mean(0).expand(70, 64)
    assert_sqnr(ops.attention(qkv, packed(70), None, 2, 32**-0.5), want, least_db(kernel))


def test_precise_is_float32_with_every_kernel(kernel: str) -> None:
    qkv, starts, keep = random(150, 3, 32), packed(100, 30, 20), mask(150)
    want = exact(qkv, starts, keep, 3, 0.2)
    have = ops.attention(qkv, starts, keep, 3, 0.2, True)
    assert_sqnr(have, want, 100)
    rows = ops.attention_int8(qkv, starts, keep, 3, 0.2, True, 0.0, 128, 0, True)
    for one, other in zip(rows, ops.quantize_per_token(have, True), strict=True):
        assert_equal_bits(one, other, kernel)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("column", [3, 64 + 3, 128 + 3], ids=["query", "key", "value"])
def test_nan_stays_in_its_sequence_and_head(kernel: str, column: int, value: float) -> None:
    qkv, starts = random(90, 2, 32), packed(30, 40, 20)
    clean = ops.attention(qkv, starts, None, 2, 0.2)
    qkv[45, column] = value
    have = ops.attention(qkv, starts, None, 2, 0.2)
    rows = torch.tensor([45]) if column < 64 else torch.arange(30, 70)
    touched = torch.zeros(90, 64, dtype=torch.bool)
    touched[rows[:, None], torch.arange(32) if column < 128 else torch.tensor([3])] = True
    assert_equal_bits(have[~touched], clean[~touched], kernel)
    want = reference.attention(qkv, starts, None, 2, 0.2)
    assert torch.equal(have.isfinite(), want.isfinite())
    assert value == torch.inf or have[touched].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_int8_is_attention_then_quantize(kernel: str, isa: str, levels: Levels, dtype: torch.dtype) -> None:
    qkv, starts, keep = random(150, 3, 32).to(dtype), packed(100, 30, 20), mask(150)
    keep[100:130] = False
    want = ops.quantize_per_token(ops.attention(qkv, starts, keep, 3, 0.2), *levels)
    have = ops.attention_int8(qkv, starts, keep, 3, 0.2, *levels)
    for one, other in zip(have, want, strict=True):
        assert_equal_bits(one, other, kernel)


SHARED = {  # csrc/attention_plan.h, for 2 and 3 threads
    "heads": ((300, 20, 180), 4),
    "whole sequences": ((40, 40, 40, 40, 40, 40), 3),
    "whole sequences and heads": ((90, 70, 60, 50, 40, 30, 20), 4),
    "whole sequences and rows": ((60, 60, 60, 60, 60), 5),
    "rows": ((130,), 1),
}


@pytest.mark.parametrize("shared", SHARED)
def test_threads_do_not_change_it(kernel: str, levels: Levels, threads: None, shared: str) -> None:
    lengths, heads = SHARED[shared]
    args = random(sum(lengths), heads, 32), packed(*lengths), mask(sum(lengths)), heads, 0.2
    torch.set_num_threads(1)
    one, rows = ops.attention(*args), ops.attention_int8(*args, *levels)
    for count in (2, 3):
        torch.set_num_threads(count)
        assert_equal_bits(ops.attention(*args), one, kernel)
        for have, want in zip(ops.attention_int8(*args, *levels), rows, strict=True):
            assert_equal_bits(have, want, kernel)


def test_strided_arguments(kernel: str) -> None:
    qkv, starts, keep = random(50, 2, 32), packed(20, 30), mask(50)
    have = ops.attention(
        qkv.t().contiguous().t(), starts.repeat_interleave(2)[::2], keep.repeat_interleave(2)[::2], 2, 0.2
    )
    assert_equal_bits(have, ops.attention(qkv, starts, keep, 2, 0.2), kernel)
