"""Attention to kept keys and values, by every kernel: against the reference, and against that to the whole text."""

import pytest
import torch
from torch import Tensor

from operators import attention_cached as reference
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.operators.samples import ops
from tests.operators.test_attention import exact, least_db, packed, random

FLOATS = [torch.float32, torch.bfloat16]


def kept(batch: int, heads: int, room: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(room)
    keys, values = (torch.randn(batch, heads, room, d, generator=g).to(dtype) for _ in range(2))
    return keys, values


def mask(batch: int, tokens: int) -> Tensor:
    """→ int64 [batch, tokens], each sequence padded on the left by its number"""
    return (torch.arange(tokens) >= torch.arange(batch)[:, None]).long()


def both(given: tuple, *rest: object) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """given: qkv, keys, values → (y, keys, values) of the kernels and of the reference, on copies"""
    results = []
    for call in (ops.attention_cached, reference.attention_cached):
        qkv, keys, values = (tensor.clone() for tensor in given)
        results.append((call(qkv, keys, values, *rest), keys, values))
    return results[0], results[1]


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32 kept", "bfloat16 kept"])
@pytest.mark.parametrize("d", [1, 7, 16, 33, 64, 80, 128])
@pytest.mark.parametrize("past, new", [(0, 1), (1, 1), (40, 1), (130, 3), (0, 30), (17, 5), (64, 64)])
def test_equals_the_reference(kernel: str, past: int, new: int, d: int, dtype: torch.dtype) -> None:
    qkv, (keys, values) = random(3 * new, 2, d), kept(3, 2, past + new + 5, d, dtype)
    have, want = both((qkv, keys, values), past, mask(3, past + new), 2, d**-0.5)
    assert_sqnr(have[0], want[0], least_db(kernel))
    assert_equal_bits(have[1], want[1], "new keys are written, no others")
    assert_equal_bits(have[2], want[2], "new values are written, no others")


@pytest.mark.parametrize("shared", [1, 2, 3])
@pytest.mark.parametrize("past, new", [(0, 1), (40, 1), (130, 3), (0, 30), (17, 5)])
def test_heads_that_share_keys(kernel: str, past: int, new: int, shared: int) -> None:
    """As if each of the keys' heads were there as often as it is looked at."""
    qkv, (keys, values) = random(3 * new, 4, 16)[:, : (6 + 2 * shared) * 16], kept(3, shared, past + new, 16, FLOATS[0])
    have, want = both((qkv, keys, values), past, mask(3, past + new), 6, 0.25)
    assert_sqnr(have[0], want[0], least_db(kernel))
    for one, other in zip(have[1:], want[1:], strict=True):
        assert_equal_bits(one, other)
    q, *parts = qkv.view(3 * new, -1, 16).split([6, shared, shared], 1)
    each = torch.cat([q, *(part.repeat_interleave(6 // shared, 1) for part in parts)], 1).reshape(3 * new, -1)
    repeated = (kept.repeat_interleave(6 // shared, 1) for kept in (keys, values))
    assert_equal_bits(ops.attention_cached(each, *repeated, past, mask(3, past + new), 6, 0.25), have[0], kernel)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32 rows", "bfloat16 rows"])
def test_token_by_token_is_the_whole_text(kernel: str, dtype: torch.dtype) -> None:
    """Two sequences of 70 tokens, 30 at once and then one at a time."""
    qkv, starts = random(140, 3, 32).to(dtype), packed(70, 70)
    keys, values = kept(2, 3, 80, 32, torch.float32)
    rows = qkv.view(2, 70, -1)
    found = []
    for first, last in [(0, 30), *((at, at + 1) for at in range(30, 70))]:
        new = rows[:, first:last].reshape(-1, qkv.shape[1])
        whole = torch.ones(2, last, dtype=torch.bool)
        found.append(ops.attention_cached(new, keys, values, first, whole, 3, 0.2).view(2, last - first, -1))
    have = torch.cat(found, 1).reshape(140, -1)
    assert_sqnr(have, exact(qkv.float(), starts, None, 3, 0.2, causal=True), least_db(kernel))


@pytest.mark.parametrize("new", [1, 6])
def test_tokens_that_see_nothing_give_zeros(kernel: str, new: int) -> None:
    qkv, (keys, values) = random(2 * new, 2, 16), kept(2, 2, 20, 16, torch.float32)
    shown = torch.ones(2, 9 + new, dtype=torch.int64)
    shown[1] = 0
    y = ops.attention_cached(qkv, keys, values, 9, shown, 2, 0.2)
    assert not y[new:].any() and y[:new].all()
    shown[1, -1] = 1  # the last token sees itself
    y = ops.attention_cached(qkv, keys, values, 9, shown, 2, 0.2)
    assert not y[new : 2 * new - 1].any()
    assert_sqnr(y[-1], qkv[-1, 64:], least_db(kernel))


@pytest.mark.parametrize("new", [1, 6])
def test_precise_is_float32_with_every_kernel(kernel: str, new: int) -> None:
    qkv, (keys, values) = random(2 * new, 2, 32), kept(2, 2, 50, 32, torch.float32)
    have, want = both((qkv, keys, values), 40, mask(2, 40 + new), 2, 0.2, True)
    assert_sqnr(have[0], want[0], 110)


@pytest.mark.parametrize("shared", [1, 4])
@pytest.mark.parametrize("new", [1, 30])
def test_threads_do_not_change_it(kernel: str, threads: None, new: int, shared: int) -> None:
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        (keys, values), qkv = kept(2, shared, 60, 32, torch.bfloat16), random(2 * new, 4, 32)
        qkv = qkv[:, : (4 + 2 * shared) * 32]
        found.append(ops.attention_cached(qkv, keys, values, 30, mask(2, 30 + new), 4, 0.2))
    for other in found[1:]:
        assert_equal_bits(other, found[0], kernel)


QKV, MASK = torch.randn(4, 24), torch.ones(2, 5, dtype=torch.int64)
BAD = {
    "qkv of half": ("qkv must be", {0: QKV.half()}),
    "keys of other heads": ("keys must be float32 or bfloat16", {1: torch.zeros(2, 4, 6, 4)}),
    "columns for more heads of keys": ("qkv must have .* columns for 4 heads", {0: QKV[:, :23], 5: 4}),
    "fewer heads than of keys": ("keys must be float32 or bfloat16", {5: 1}),
    "keys turned round": ("keys must be float32 or bfloat16", {1: torch.zeros(2, 6, 2, 4).transpose(1, 2)}),
    "values of other room": ("keys and values must be alike", {2: torch.zeros(2, 2, 7, 4)}),
    "rows of half a sequence": ("qkv must have as many rows for each of 2 sequences", {0: QKV[:3]}),
    "no room": ("past and new tokens must fit into 6; got 7", {3: 5, 4: torch.ones(2, 7, dtype=torch.int64)}),
    "past below 0": ("past and new tokens must fit into 6", {3: -1, 4: MASK[:, :1]}),
    "a mask of floats": ("mask must be int64 or bool", {4: MASK.float()}),
    "a mask of the new tokens": ("mask must be int64 or bool", {4: MASK[:, 3:]}),
    "no scale": ("scale must be finite", {6: torch.nan}),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    message, changed = BAD[case]
    given = [QKV, torch.zeros(2, 2, 6, 4), torch.zeros(2, 2, 6, 4), 3, MASK, 2, 0.5]
    for place, value in changed.items():
        given[place] = value
    for call in (ops.attention_cached, reference.attention_cached):
        with pytest.raises((ValueError, RuntimeError), match=message):
            call(*given)
        assert_refuses(call, "attention_cached", *given)
