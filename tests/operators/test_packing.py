"""Real tokens side by side and back: every mask, every kind of number, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import packing as reference
from tests.checks import assert_equal_bits
from tests.operators.samples import ops

sizes = st.tuples(st.integers(1, 5), st.integers(1, 9))
MASKS = sizes.flatmap(
    lambda size: st.lists(st.integers(0, 1), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda bits: torch.tensor(bits).view(size)
    )
)


@settings(max_examples=50, deadline=None)
@given(mask=MASKS)
def test_there_and_back(mask: torch.Tensor) -> None:
    batch, sequence = mask.shape
    tokens, starts = ops.pack_tokens(mask)
    assert (tokens.dtype, starts.dtype) == (torch.int64, torch.int32)
    assert tokens.tolist() == [i for i, bit in enumerate(mask.flatten().tolist()) if bit]
    assert starts.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
    x = torch.randn(batch * sequence, 3)
    back = ops.unpack_tokens(x[tokens], tokens, batch, sequence)
    assert_equal_bits(back, torch.where(mask.view(-1, 1).bool(), x, 0.0).view(batch, sequence, 3))


@settings(max_examples=50, deadline=None)
@given(mask=MASKS)
def test_with_the_first_position_of_each_sequence(mask: torch.Tensor) -> None:
    with_first = mask.clone()
    with_first[:, 0] = 1
    for pack in (ops.pack_tokens, reference.pack_tokens):
        for have, want in zip(pack(mask, True), ops.pack_tokens(with_first), strict=True):
            assert_equal_bits(have, want)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_no_positions(sizes: tuple[int, int], first: bool) -> None:
    tokens, starts = ops.pack_tokens(torch.ones(sizes), first)
    assert tokens.shape == (0,) and starts.tolist() == [0] * (sizes[0] + 1)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32], ids=str)
def test_masks_of_any_kind(dtype: torch.dtype, first: bool) -> None:
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    for have, want in zip(ops.pack_tokens(mask.to(dtype), first), ops.pack_tokens(mask, first), strict=True):
        assert_equal_bits(have, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_what_is_not_zero_is_real(dtype: torch.dtype) -> None:
    mask = torch.tensor([[0.5, 0.0, 1e-30], [-0.5, -0.0, torch.inf]], dtype=dtype)
    for have, want in zip(ops.pack_tokens(mask), ops.pack_tokens(mask != 0), strict=True):
        assert_equal_bits(have, want)
    assert ops.pack_tokens(mask)[0].tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64], ids=str)
def test_rows_of_any_kind(dtype: torch.dtype) -> None:
    x = torch.arange(4).view(2, 2).to(dtype)
    back = ops.unpack_tokens(x, torch.tensor([0, 2]), 1, 3)
    assert_equal_bits(back, torch.tensor([[[0, 1], [0, 0], [2, 3]]]).to(dtype))


@pytest.mark.parametrize("through", [ops, reference], ids=["kernels", "reference"])
@settings(max_examples=50, deadline=None)
@given(mask=MASKS)
def test_ids_of_the_real_tokens(through, mask: torch.Tensor) -> None:
    tokens, _ = ops.pack_tokens(mask)
    ids, longer = torch.randint(0, 99, mask.shape), torch.randint(0, 99, (1, mask.shape[1] + 3))
    row = longer[:, : mask.shape[1]]
    whole, repeated, begun = through.take_tokens([ids, row, longer], tokens)
    assert_equal_bits(whole, ids[mask.bool()])
    for taken in (repeated, begun):
        assert_equal_bits(taken, row.expand(mask.shape)[mask.bool()])


@pytest.mark.parametrize("through", [ops, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32], ids=str)
@settings(max_examples=20, deadline=None)
@given(mask=MASKS)
def test_columns_are_those_of_the_padded_batch(through, dtype: torch.dtype, mask: torch.Tensor) -> None:
    tokens, _ = ops.pack_tokens(mask)
    x = torch.randint(1, 99, (len(tokens), 3)).to(dtype)
    columns = through.unpack_columns(x, tokens, *mask.shape)
    assert len(columns) == 3
    for column, want in zip(columns, ops.unpack_tokens(x, tokens, *mask.shape).unbind(-1), strict=True):
        assert_equal_bits(column, want)
        assert column.is_contiguous()


@pytest.mark.parametrize("through", [ops, reference], ids=["kernels", "reference"])
def test_ids_of_no_texts(through) -> None:
    ids, row, none = torch.empty(0, 3, dtype=torch.int64), torch.arange(3)[None], torch.empty(0, dtype=torch.int64)
    for taken in (*through.take_tokens([ids], none), *through.take_tokens([ids, row], none)):
        assert_equal_bits(taken, none)


TOKENS, IDS = torch.tensor([0, 2]), torch.ones(2, 3, dtype=torch.int64)
BAD = {
    "ids of one dimension": lambda: ops.take_tokens([IDS[0]], TOKENS),
    "ids of int32": lambda: ops.take_tokens([IDS.int()], TOKENS),
    "ids of two lengths": lambda: ops.take_tokens([IDS, IDS[:, 1:]], TOKENS),
    "a row that is too short": lambda: ops.take_tokens([IDS, IDS[:1, 1:]], TOKENS),
    "ids of two and three rows": lambda: ops.take_tokens([IDS, torch.cat([IDS, IDS[:1]])], TOKENS),
    "tokens in two dimensions": lambda: ops.take_tokens([IDS], TOKENS[None]),
    "ids taken with tokens of int32": lambda: ops.take_tokens([IDS], TOKENS.int()),
    "references to ids of int32": lambda: reference.take_tokens([IDS.int()], TOKENS),
    "references to a row that is too short": lambda: reference.take_tokens([IDS, IDS[:1, 1:]], TOKENS),
    "references to ids of two lengths": lambda: reference.take_tokens([IDS, IDS[:, 1:]], TOKENS),
    "columns of one dimension": lambda: ops.unpack_columns(torch.ones(2), TOKENS, 1, 3),
    "columns of doubles": lambda: ops.unpack_columns(torch.ones(2, 1).double(), TOKENS, 1, 3),
    "references to columns of doubles": lambda: reference.unpack_columns(torch.ones(2, 1).double(), TOKENS, 1, 3),
    "a mask of one dimension": lambda: ops.pack_tokens(torch.ones(3)),
    "a mask of four": lambda: ops.pack_tokens(torch.ones(1, 1, 1, 3)),
    "rows of three dimensions": lambda: ops.unpack_tokens(torch.ones(2, 1, 1), TOKENS, 1, 3),
    "another number of tokens": lambda: ops.unpack_tokens(torch.ones(3, 1), TOKENS, 1, 3),
    "tokens of int32": lambda: ops.unpack_tokens(torch.ones(2, 1), TOKENS.int(), 1, 3),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"^((un)?pack|take)_(tokens|columns): .*; got .*; "):
        BAD[case]()


@pytest.mark.parametrize("sizes", [(2**20, 2**25), (-1, 3)], ids=str)
def test_a_result_that_cannot_be_is_one_line(sizes: tuple[int, int]) -> None:
    shape = ", ".join(map(str, (*sizes, 1)))
    with pytest.raises(RuntimeError, match=rf"^opswap: a result must .* memory; got shape \[{shape}\]; pass fewer"):
        ops.unpack_tokens(torch.ones(2, 1), TOKENS, *sizes)


@pytest.mark.parametrize("through", [ops, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("place", [3, -1, -4], ids=str)
def test_positions_outside_of_the_batch(through, place: int) -> None:
    x, tokens = torch.ones(2, 1), torch.tensor([0, place])
    for step in (
        lambda: through.unpack_tokens(x, tokens, 1, 3),
        lambda: through.unpack_columns(x, tokens, 1, 3),
        lambda: through.take_tokens([IDS[:1]], tokens),
    ):
        with pytest.raises((IndexError, RuntimeError), match=f"out of|must lie in 0..2; got {place}"):
            step()
