"""A cache that grows in place is a value all the same: what was returned earlier never changes."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from operators import kernels
from targets._attention import CachedAttention
from targets._cached import PackedCachedAttention
from tests.checks import assert_equal_bits, assert_sqnr

HEADS, SIZE, WIDTH = 2, 16, 32
Step = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def made(request: pytest.FixtureRequest) -> PackedCachedAttention:
    kernels.load()
    return PackedCachedAttention(CachedAttention(HEADS, 0.25, kept=request.param))


def rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3 * WIDTH, generator=torch.Generator().manual_seed(seed))


def step(module: Callable[..., Step], qkv: Tensor, last: Step | None, batch: int = 1) -> Step:
    """One call after the one that returned `last`."""
    empty = torch.empty(batch, HEADS, 0, SIZE, dtype=module.kept)  # type: ignore[attr-defined]
    keys, values = (empty, empty) if last is None else last[1:]
    tokens = keys.shape[2] + len(qkv) // batch
    return module(qkv, keys, values, torch.ones(batch, tokens, dtype=torch.int64))


def test_equals_the_reference(made: PackedCachedAttention) -> None:
    reference = CachedAttention(HEADS, 0.25, kept=made.kept)
    have = want = None
    for seed, count in enumerate([10, *[2] * 90]):  # beyond the room that there is at first
        have, want = (step(module, rows(count, seed), last, 2) for module, last in ((made, have), (reference, want)))
        assert_sqnr(have[0], want[0], 44)
        assert_equal_bits(have[1].contiguous(), want[1])
        assert_equal_bits(have[2].contiguous(), want[2])


def test_it_grows_without_copies(made: PackedCachedAttention) -> None:
    first = step(made, rows(5, 0), None)
    last, places = first, set()
    for seed in range(1, 50):
        last = step(made, rows(1, seed), last)
        places.add((last[1].data_ptr(), last[2].data_ptr()))
    assert places == {(first[1].data_ptr(), first[2].data_ptr())}


def test_what_was_returned_never_changes(made: PackedCachedAttention) -> None:
    """Two ways on from one cache: both are what they are alone."""
    start = step(made, rows(5, 0), None)
    kept = [part.clone() for part in start[1:]]
    one = step(made, rows(1, 1), start)
    saved = [part.clone() for part in one[1:]]
    other = step(made, rows(1, 2), start)
    again = step(made, rows(1, 3), one)
    for have, want in zip(
        (*start[1:], *one[1:], *(part[:, :, :6] for part in again[1:])), kept + saved * 2, strict=True
    ):
        assert_equal_bits(have.contiguous(), want)
    fresh = copy.deepcopy(made)
    assert_equal_bits(other[0], step(fresh, rows(1, 2), step(fresh, rows(5, 0), None))[0])


def test_a_cache_that_was_copied_goes_on(made: PackedCachedAttention) -> None:
    """Rows that end leave the batch: the caller selects the others."""
    start = step(made, rows(10, 0), None, 2)
    alone = step(made, rows(10, 0)[5:], None)
    picked = (start[0], *(part[[1]] for part in start[1:]))
    assert_equal_bits(step(made, rows(1, 1), picked)[0], step(made, rows(1, 1), alone)[0])


def test_inference_mode_may_end_in_between(made: PackedCachedAttention) -> None:
    with torch.inference_mode():
        start = step(made, rows(5, 0), None)
    with torch.no_grad():
        one = step(made, rows(1, 1), start)
        again = step(made, rows(1, 2), one)
    fresh = copy.deepcopy(made)
    want = step(fresh, rows(1, 2), step(fresh, rows(1, 1), step(fresh, rows(5, 0), None)))
    for have, expected in zip(again, want, strict=True):
        assert_equal_bits(have.contiguous(), expected.contiguous())


def test_copies_begin_empty(made: PackedCachedAttention) -> None:
    """A graph that is pickled, too."""
    start = step(made, rows(5, 0), None)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        again = step(other, rows(1, 1), start)
        assert again[1].data_ptr() != start[1].data_ptr()
        assert_equal_bits(again[0], step(copy.deepcopy(made), rows(1, 1), start)[0])


def test_masks_of_any_dtype(made: PackedCachedAttention) -> None:
    qkv, empty = rows(4, 0), torch.empty(1, HEADS, 0, SIZE, dtype=made.kept)
    mask = torch.tensor([[0, 1, 1, 1]])
    want = made(qkv, empty, empty, mask)[0]
    for dtype in (torch.bool, torch.float32, torch.int32):
        assert_equal_bits(made(qkv, empty, empty, mask.to(dtype))[0], want)
