"""Attention whose tokens also meet vectors of positions, by every kernel: against the reference, and a bias by hand."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from operators import attention_disentangled as reference
from operators.attention import attention
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.samples import ops
from tests.operators.test_attention import least_db, mask, packed, random
from tests.operators.test_attention_table import PLACES


class Sides(NamedTuple):
    """The operator's arguments from position_keys to query_index"""

    position_keys: Tensor | None
    key_index: Tensor | None
    position_queries: Tensor | None
    query_index: Tensor | None

    def bias(self, qkv: Tensor, starts: Tensor, places: Tensor, heads: int, scale: float) -> list[Tensor]:
        """→ of each sequence, [1, heads, rows, rows], one number after the other"""
        found = []
        for first, last in zip(starts.tolist(), starts.tolist()[1:], strict=False):
            q, k, _ = qkv[first:last].float().unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
            bias = torch.zeros(heads, last - first, last - first)
            for mine, vectors, index in ((True, *self[:2]), (False, *self[2:])):
                if vectors is not None:
                    at = places[first:last] % len(index)
                    entries = index[at][:, at].long()
                    one = q[:, :, None] if mine else k[:, None]
                    bias += scale * (one * vectors[:, entries]).sum(-1)
            found.append(bias[None])
        return found


def vectors(heads: int, count: int, d: int, seed: int) -> Tensor:
    return torch.randn(heads, count, d, generator=torch.Generator().manual_seed(seed))


def index_of(kind: str, size: int, count: int, seed: int = 0) -> Tensor:
    """int32 [size, size], entries below `count`"""
    place = torch.arange(size)
    if kind == "anywhere":
        return torch.randint(count, (size, size), generator=torch.Generator().manual_seed(seed)).int()
    away = place - place[:, None] if kind == "falling" else place[:, None] - place
    away = away.sign() * (away.abs() + 1).float().log2().mul(4).long() if kind == "buckets" else away
    return (away + count // 2).clamp(0, count - 1).int()


def sides(heads: int, d: int, size: int, count: int = 90, kind: str = "distances", which: str = "both") -> Sides:
    keys = vectors(heads, count, d, 1), index_of(kind, size, count)
    queries = vectors(heads, count + 3, d, 2), index_of(kind, size, count + 3, 1)
    none = None, None
    return Sides(*(keys if which != "queries" else none), *(queries if which != "keys" else none))


def check(kernel: str, qkv: Tensor, starts: Tensor, keep: Tensor | None, places: Tensor | None, those: Sides,
          heads: int, scale: float = 0.15) -> Tensor:  # fmt: skip
    args = qkv, starts, keep, places, *those, heads, scale
    have = ops.attention_disentangled(*args)
    assert_sqnr(have, reference.attention_disentangled(*args), least_db(kernel))
    return have


@pytest.mark.parametrize("which", ["both", "keys", "queries"])
@pytest.mark.parametrize("kind", ["distances", "anywhere"])
def test_the_reference_is_attention_with_a_bias(kind: str, which: str) -> None:
    qkv, starts, keep, size = random(60, 3, 8), packed(5, 0, 1, 20, 34), mask(60), 40
    places = torch.randint(99, (60,), generator=torch.Generator().manual_seed(3))
    those = sides(3, 8, size, 30, kind, which)
    have = reference.attention_disentangled(qkv, starts, keep, places, *those, 3, 0.2)
    at = starts.tolist()
    for first, last, bias in zip(at, at[1:], those.bias(qkv, starts, places, 3, 0.2), strict=False):
        own = slice(first, last)
        if last > first:
            alone = qkv[own], packed(last - first), keep[own], 3, 0.2, False, False, bias
            assert_sqnr(have[own], attention(*alone), 115)


@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 32, 33, 48, 64, 80, 100, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_any_head_size(kernel: str, d: int, dtype: torch.dtype) -> None:
    those, keep = sides(2, d, 40), mask(71)
    check(kernel, random(71, 2, d).to(dtype), packed(33, 1, 20, 17), keep, None, those, 2, (3 * d) ** -0.5)


@pytest.mark.parametrize("kind", ["distances", "falling", "buckets", "anywhere"])
@pytest.mark.parametrize("length", [*range(1, 36), 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 130, 257])
def test_any_length(kernel: str, length: int, kind: str) -> None:
    check(kernel, random(length, 2, 32, length), packed(length), None, None, sides(2, 32, 257, 300, kind), 2)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 128, 200, 700])
@pytest.mark.parametrize("kind", ["distances", "falling", "anywhere"])
def test_any_number_of_positions(kernel: str, kind: str, count: int) -> None:
    check(kernel, random(150, 2, 32), packed(100, 50), None, None, sides(2, 32, 100, count, kind), 2)


@pytest.mark.parametrize("which", ["both", "keys", "queries"])
@pytest.mark.parametrize("name", PLACES)
def test_equals_a_bias_put_together_by_hand(kernel: str, name: str, which: str) -> None:
    """For each of three sequences of a batch, of which the places count on beyond the index."""
    size = 70
    ats = [torch.tensor(list(PLACES[name]), dtype=torch.int64) + size * number for number in range(3)]
    ats[1] = ats[1][: len(ats[1]) // 2]
    starts, places, those = packed(*map(len, ats)), torch.cat(ats), sides(2, 32, size, 90, "distances", which)
    qkv = random(len(places), 2, 32)
    have = check(kernel, qkv, starts, None, places, those, 2, 0.2)
    at = starts.tolist()
    for first, last, bias in zip(at, at[1:], those.bias(qkv, starts, places, 2, 0.2), strict=False):
        if last > first:
            assert_sqnr(have[first:last], ops.attention_biased(qkv[first:last], bias, 2, 0.2), least_db(kernel))


@pytest.mark.parametrize("places", [False, True], ids=["without places", "places"])
@pytest.mark.parametrize("kind", ["right", "left", "scattered", "one", "all", "nothing"])
def test_keys_that_are_kept(kernel: str, kind: str, places: bool) -> None:
    """What the others hold does not matter, and their rows alone give what they give in a padded batch."""
    size = 110
    place = torch.arange(size)
    keep = {
        "right": place < 33,
        "left": place >= 40,
        "scattered": mask(size),
        "one": place == 61,
        "all": place >= 0,
        "nothing": place < 0,
    }[kind].repeat(2)
    qkv, starts, those = random(2 * size, 2, 32), packed(size, size), sides(2, 32, size)
    at = place.repeat(2) if places else None
    have = check(kernel, qkv, starts, keep, at, those, 2, 0.2)
    qkv[~keep, 64:] = torch.nan
    assert_equal_bits(ops.attention_disentangled(qkv, starts, keep, at, *those, 2, 0.2), have, kernel)
    alone = packed(*(int(one.sum()) for one in keep.split(size)))
    if kind != "nothing":
        rows = check(kernel, qkv[keep], alone, None, place.repeat(2)[keep], those, 2, 0.2)
        assert_equal_bits(rows, have[keep], kernel)
    else:
        assert_equal_bits(have, torch.zeros_like(have), kernel)


@pytest.mark.parametrize("kind", ["distances", "anywhere"])
def test_a_sequence_alone_equals_itself_in_a_batch(kernel: str, kind: str) -> None:
    lengths = [20, 140, 0, 77, 1, 130]
    qkv, starts, those = random(sum(lengths), 3, 32), packed(*lengths), sides(3, 32, 140, 250, kind)
    keep = mask(len(qkv)) | (torch.arange(len(qkv)) == starts[4])
    whole = check(kernel, qkv, starts, keep, None, those, 3)
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own = slice(first, last)
        alone = ops.attention_disentangled(qkv[own], packed(last - first), keep[own], None, *those, 3, 0.15)
        assert_equal_bits(whole[own], alone, f"{kernel}, rows {first}..{last}")


def test_nan_stays_in_its_row(kernel: str) -> None:
    qkv, starts, those = random(120, 2, 32), packed(70, 50), sides(2, 32, 70)
    clean = ops.attention_disentangled(qkv, starts, None, None, *those, 2, 0.2)
    qkv[5, 3] = torch.nan
    have = ops.attention_disentangled(qkv, starts, None, None, *those, 2, 0.2)
    assert have[5, :32].isnan().all()
    have[5, :32] = clean[5, :32]
    assert_equal_bits(have, clean, kernel)


def test_vectors_as_they_lie_in_memory_change_nothing(kernel: str) -> None:
    qkv, starts, those = random(60, 2, 32), packed(60), sides(2, 32, 60)
    turned = [one.transpose(0, 1).contiguous().transpose(0, 1) for one in those if one is not None]
    have = ops.attention_disentangled(qkv.repeat(1, 2)[:, :192], starts, None, None, *turned, 2, 0.2)
    assert_equal_bits(have, ops.attention_disentangled(qkv, starts, None, None, *those, 2, 0.2), kernel)


def test_precise_is_float32_with_every_kernel(kernel: str) -> None:
    args = random(90, 3, 32), packed(45, 45), None, None, *sides(3, 32, 45), 3, 0.2, True
    assert_sqnr(ops.attention_disentangled(*args), reference.attention_disentangled(*args), 100)


@pytest.mark.parametrize("lengths", [[130], [64, 0, 30, 4, 32]], ids=str)
def test_threads_do_not_change_it(kernel: str, threads, lengths: list[int]) -> None:
    args = random(130, 5, 32), packed(*lengths), mask(130), None, *sides(5, 32, 130, 200), 5, 0.2
    threads(1)
    one = ops.attention_disentangled(*args)
    for count in (2, 3):
        threads(count)
        assert_equal_bits(ops.attention_disentangled(*args), one, kernel)


def test_what_no_sequence_reaches_may_be_anything(kernel: str) -> None:
    those = sides(2, 32, 60)
    for index in (those.key_index, those.query_index):
        index[40:], index[:, 40:] = -7, 1000
    check(kernel, random(70, 2, 32), packed(40, 30), None, None, those, 2)
