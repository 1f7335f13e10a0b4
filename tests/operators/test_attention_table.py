"""Attention over packed rows with a table by places: the bits of a bias that says the same, by every kernel."""

import pytest
import torch
from torch import Tensor

from operators import attention as reference
from operators import kernels, layers
from operators.packing import pack_tokens
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.operators.samples import ops
from tests.operators.test_attention import least_db, packed, random
from tests.operators.test_attention_biased import bias_of
from tests.operators.test_layers import arguments, starts_of

S = 70
PLACES = {
    "one run": range(3, 60),
    "from the first": range(41),
    "gaps": [0, 1, 2, 7, 8, 30, 31, 32, 69],
    "the first, and a run": [0, *range(20, 70)],
    "longer than a part": [0, *range(2, 70)],
    "one": [5],
    "none": [],
}


def of_each(qkv: Tensor, starts: Tensor, keep: Tensor | None, table: Tensor, places: Tensor, heads: int) -> Tensor:
    """Sequence by sequence, its part of the table as the bias of attention_biased, -inf where `keep` is not."""
    found = [torch.zeros(0, qkv.shape[1] // 3)]
    size = table.shape[3]
    for first, last in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        at = places[first:last] % size
        bias = table.expand(-1, -1, size, -1)[:, :, at][:, :, :, at].contiguous()
        if keep is not None:
            bias[..., ~keep[first:last]] = -torch.inf
        found.append(ops.attention_biased(qkv[first:last], bias, heads, 0.2) if last > first else found[0])
    return torch.cat(found)


@pytest.mark.parametrize("d", [7, 32, 64])
@pytest.mark.parametrize("shape", [(1, 2, S, S), (1, 1, S, S), (1, 2, 1, S)], ids=str)
@pytest.mark.parametrize("name", PLACES)
def test_equals_a_bias_of_its_own(kernel: str, name: str, shape: tuple[int, ...], d: int) -> None:
    """For each of three sequences of a batch, of which the places count on."""
    ats = [torch.tensor(list(PLACES[name]), dtype=torch.int64) + S * number for number in range(3)]
    ats[1] = ats[1][: len(ats[1]) // 2]
    starts, places, table = packed(*map(len, ats)), torch.cat(ats), bias_of(*shape)
    qkv = random(len(places), 2, d)
    have = ops.attention(qkv, starts, None, 2, 0.2, False, False, table, places)
    assert_equal_bits(have, of_each(qkv, starts, None, table, places, 2), kernel)
    want = reference.attention(qkv, starts, None, 2, 0.2, False, False, table, places)
    assert_sqnr(have, want, least_db(kernel))


@pytest.mark.parametrize("kind", ["right", "left", "scattered", "all", "nothing"])
def test_keys_that_are_kept(kernel: str, kind: str) -> None:
    """In padded rows, without places. A key that is left out is none with a score of -inf: sums differ in last bits."""
    place = torch.arange(S)
    keep = {
        "right": place < 33,
        "left": place >= 40,
        "scattered": torch.rand(S, generator=torch.Generator().manual_seed(0)) < 0.5,
        "all": place >= 0,
        "nothing": place < 0,
    }[kind].repeat(2)
    qkv, starts, table = random(2 * S, 2, 32), packed(S, S), bias_of(1, 2, S, S)
    args = qkv, starts, keep, 2, 0.2, False, False, table
    have = ops.attention(*args)
    assert_sqnr(have, reference.attention(*args), least_db(kernel))
    want = of_each(qkv, starts, keep, table, place.repeat(2), 2)
    assert_sqnr(have, want, least_db(kernel)) if kind != "nothing" else assert_equal_bits(have, want)
    assert_equal_bits(ops.attention(*args, place.repeat(2)), have, kernel)
    alone = qkv[keep], packed(*(int(one.sum()) for one in keep.split(S))), None, 2, 0.2, False, False, table
    assert_equal_bits(ops.attention(*alone, place.repeat(2)[keep]), have[keep], kernel)


@pytest.mark.parametrize("side", ["right", "left", "scattered"])
@pytest.mark.parametrize("first", [False, True], ids=["real tokens", "position 0 too"])
def test_where_padding_stands_changes_nothing(kernel: str, side: str, first: bool) -> None:
    """Packed rows of a batch are what the padded batch has there; a window of tokens, with distances in it."""
    lengths, place = torch.tensor([70, 1, 33, 64]), torch.arange(S)
    mask = place < lengths[:, None]
    mask = mask.flip(1) if side == "left" else mask
    if side == "scattered":
        mask &= torch.rand(4, S, generator=torch.Generator().manual_seed(0)) < 0.6
    tokens, starts = pack_tokens(mask.long(), first)
    away = (place[:, None] - place).abs()
    table = torch.where(away <= 20, bias_of(1, 2, S, S), -torch.inf)
    qkv, keep = random(4 * S, 2, 32), mask.flatten()
    padded = ops.attention(qkv, packed(*[S] * 4), keep, 2, 0.2, False, False, table)
    rows = qkv[tokens], starts, keep[tokens] if first else None, 2, 0.2, False, False, table, tokens
    assert_equal_bits(ops.attention(*rows), padded[tokens], kernel)


def test_threads_do_not_change_it(kernel: str, threads) -> None:
    """Whole sequences, heads and parts of rows are shared among them."""
    ats = torch.cat([torch.arange(64), torch.arange(10, 40), torch.tensor([0, 2, 5, 60]), torch.arange(64)])
    for lengths in ([162], [64, 30, 68], [64, 30, 4, 64]):
        args = random(162, 2, 32), packed(*lengths), None, 2, 0.2, False, False, bias_of(1, 2, 64, 64), ats
        threads(1)
        one = ops.attention(*args)
        for count in (2, 3, 5):
            threads(count)
            assert_equal_bits(ops.attention(*args), one, kernel)


@pytest.mark.parametrize("how", ACTIVATIONS)
def test_bytes_are_the_floats_quantized(kernel: str, how: str) -> None:
    levels = ACTIVATIONS[how].levels()
    qkv, starts, places = random(40, 2, 32), packed(9, 0, 31), torch.arange(0, 80, 2)
    where = False, False, bias_of(1, 2, S, S), places
    floats = ops.attention(qkv, starts, None, 2, 0.2, *where)
    have = ops.attention_int8(qkv, starts, None, 2, 0.2, *levels, *where)
    for one, other in zip(have, ops.quantize_per_token(floats, *levels), strict=True):
        assert_equal_bits(one, other)


@pytest.mark.parametrize("lengths", [[40], [5, 0, 61, 7], [64, 64, 64, 64]], ids=str)
def test_layers_are_their_operators_one_after_the_other(lengths: list[int], threads, any_kernel) -> None:
    args = arguments(lengths, (False, 0.0, 128, 0), (True, False))
    rows = int(starts_of(lengths)[-1])
    where = bias_of(1, 2, 64, 64), torch.arange(rows) * 3
    qkv, residual, starts, keep, heads, scale, symmetric, scales, zeros, rotation, precise, causal, parts, *last = args
    how = [(heads, scale, symmetric, *level, rotation, precise, causal) for level in zip(scales, zeros, strict=True)]
    for isa in kernels.runnable():
        kernels.use(isa)
        want = layers.in_turn(qkv, residual, (starts, keep), how, parts, tuple(last), ops.attention_int8,
                              ops.feed_forward_int8, where)  # fmt: skip
        for one, other in zip(ops.layers_int8(*args, *where), want, strict=True):
            assert_equal_bits(one, other)


QKV, STARTS, ADDED = torch.zeros(9, 24), torch.tensor([0, 4, 9], dtype=torch.int32), torch.zeros(1, 2, 6, 6)
PLACE = torch.arange(9)
BAD: dict[str, tuple] = {
    "places alone": (False, None, PLACE),
    "with causal": (True, ADDED, PLACE),
    "in bfloat16": (False, ADDED.bfloat16(), PLACE),
    "of 3 dimensions": (False, ADDED[0], PLACE),
    "of a batch": (False, ADDED.expand(2, -1, -1, -1), PLACE),
    "of three heads": (False, torch.zeros(1, 3, 6, 6), PLACE),
    "not square": (False, ADDED[:, :, :5], PLACE),
    "of no place": (False, ADDED[..., :0, :0], PLACE),
    "shorter than a sequence": (False, ADDED[..., :4, :4], None),
    "too few places": (False, ADDED, PLACE[1:]),
    "places in int32": (False, ADDED, PLACE.int()),
    "a place below 0": (False, ADDED, PLACE - 1),
}


@pytest.mark.parametrize("name", ["attention", "attention_int8"])
@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str, name: str) -> None:
    operator = getattr(ops if through == "kernels" else reference, name)
    levels = (True, 0.0, 128, 0) if name == "attention_int8" else ()
    assert_refuses(operator, name, QKV, STARTS, None, 2, 0.5, *levels, False, *BAD[case])
