"""Attention to earlier tokens against the reference, in a call of any kind and in a step as it is captured."""

import pytest
import torch
from torch import Tensor

from targets._attention import CachedAttention
from targets.cuda.cached import CudaCachedAttention, Step
from tests.checks import assert_equal_bits, assert_sqnr
from tests.cuda.samples import random

BATCH, HEADS, SIZE, SCALE = 2, 4, 8, 0.3
DB = {torch.float32: 110, torch.float16: 50, torch.bfloat16: 35}
MASKS = ("all", "left padding", "nothing of one text")


def mask_of(which: str, tokens: int) -> Tensor:
    mask = torch.ones(BATCH, tokens, dtype=torch.int64)
    if which != "all":
        mask[1, : 2 if which == "left padding" else tokens] = 0
    return mask


def rows(new: int, seed: int, shared: int = HEADS) -> Tensor:
    return random(BATCH * new, (HEADS + 2 * shared) * SIZE, seed=seed)


def cache_of(tokens: int, kept: torch.dtype, shared: int = HEADS) -> tuple[Tensor, Tensor]:
    return tuple(random(BATCH, shared, tokens, SIZE, seed=seed).to(kept) for seed in (7, 8))  # type: ignore[return-value]


@pytest.mark.parametrize("kept", DB, ids=str)
@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("past, new, shared", [(0, 1, 4), (0, 9, 4), (5, 1, 4), (5, 4, 4), (0, 9, 2), (5, 1, 1)])
@pytest.mark.parametrize("window", [None, 3])
def test_any_number_of_new_tokens(
    device, window: int | None, past: int, new: int, shared: int, which: str, kept: torch.dtype
) -> None:
    source = CachedAttention(HEADS, SCALE, kept=kept, window=window)
    given = (rows(new, 0, shared), *cache_of(past, kept, shared), mask_of(which, past + new))
    y, *parts = CudaCachedAttention(source, Step())(*(part.to(device) for part in given))
    want, *wanted = source(*given)
    assert y.dtype == torch.float32
    assert_sqnr(y.cpu(), want, DB[kept])
    for have, part in zip(parts, wanted, strict=True):
        assert_equal_bits(have.cpu().contiguous(), part)
    assert which != "nothing of one text" or not y[new:].any()


@pytest.mark.parametrize("kept", DB, ids=str)
@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("shared", [HEADS, 2])
@pytest.mark.parametrize("window", [None, 1, 4, 6])
def test_a_step_writes_to_its_place_and_reads_what_is_shown(
    device, window: int | None, shared: int, which: str, kept: torch.dtype
) -> None:
    """Sizes say nothing of how many tokens there are; what is not shown may be anything finite."""
    step, past, reach, room = Step(), 5, 16, 32
    source = CachedAttention(HEADS, SCALE, kept=kept, window=window)
    made = CudaCachedAttention(source, step)
    qkv, mask, cache = rows(1, 0, shared), mask_of(which, past + 1), cache_of(past, kept, shared)
    want, *wanted = source(qkv, *cache, mask)
    empty = torch.full((BATCH, shared, room - past, SIZE), 99.0).to(kept)
    rooms = [torch.cat([part, empty], 2).to(device) for part in cache]
    step.at = torch.tensor([past], device=device)
    shown = torch.nn.functional.pad(mask != 0, (0, reach - past - 1)).to(device)
    y, *parts = made(qkv.to(device), *rooms, shown)
    assert_sqnr(y.cpu(), want, DB[kept])
    for have, held, part in zip(parts, rooms, wanted, strict=True):
        assert have is held and bool((held[:, :, past + 1 :] == 99).all())
        assert_equal_bits(held[:, :, : past + 1].cpu().contiguous(), part)


def test_its_floats_are_of_the_dtype_that_is_asked_for(device) -> None:
    made = CudaCachedAttention(CachedAttention(HEADS, SCALE, kept=torch.bfloat16), Step())
    given = [part.to(device) for part in (rows(3, 0), *cache_of(2, torch.bfloat16), mask_of("all", 5))]
    assert made(*given)[0].dtype == torch.float32
    made.dtype = torch.float16
    assert made(*given)[0].dtype == torch.float16
