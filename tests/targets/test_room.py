"""Memory that a cache grows in: how much of it there is, and what is in it. What it is as a value: test_cached."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from targets._room import Room


def cache(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, tokens, 4, generator=generator), torch.randn(2, 3, tokens, 4, generator=generator)


@pytest.mark.parametrize("unit, tokens, room", [(64, 1, 64), (64, 32, 64), (64, 33, 128), (128, 32, 128), (16, 5, 16)])
def test_it_has_room_for_twice_its_tokens_in_whole_units(unit: int, tokens: int, room: int) -> None:
    keys, values = Room(unit).extend(*cache(tokens - 1), 1)
    assert keys.shape == values.shape == (2, 3, room, 4)


def test_it_counts_the_memories_that_it_had() -> None:
    room = Room(16)
    last, made = cache(3), []
    for tokens in range(4, 36):
        last = tuple(whole.narrow(2, 0, tokens) for whole in room.extend(*last, 1))
        made.append(room.made)
    assert made == [1] * 13 + [2] * 19  # room for 16, and from 17 on for 48


def test_where_no_token_is_yet_there_are_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """and not what was there before, which may be NaN"""
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda *size, **kw: empty(*size, **kw).fill_(torch.nan))
    for whole, part in zip(Room(16, cleared=True).extend(*cache(5), 1), cache(5), strict=True):
        assert torch.equal(whole[:, :, :5], part) and not whole[:, :, 5:].any()


def test_copies_are_of_the_same_kind() -> None:
    room = Room(16, cleared=True)
    room.extend(*cache(5), 1)
    for other in (copy.deepcopy(room), pickle.loads(pickle.dumps(room))):
        assert (other.unit, other.cleared, other.kept, other.used, other.made) == (16, True, None, 0, 0)
