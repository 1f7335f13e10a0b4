"""Batches in buckets: filled up, captured when they come again, cut off; what is captured is faked, as is the GPU."""

import pytest
import torch
from torch import Tensor

from targets.cuda.buckets import Bucket, Captured, Replays, round_up


@pytest.mark.parametrize(
    "count, least, size", [(1, 16, 16), (16, 16, 16), (17, 16, 32), (513, 16, 544), (512, 16, 512)]
)
def test_sizes(count, least, size):
    assert round_up(count, least) == size


def test_little_is_filled_up():
    for count in range(300, 20_000, 7):
        assert count <= round_up(count, 16) <= 1.0625 * count + 15
        assert round_up(round_up(count, 16), 16) == round_up(count, 16)
    assert Bucket.of(300, 5, 129) == (304, 8, 256) and Bucket.of(1, 1, 1) == (16, 1, 128)


def test_a_batch_of_nothing_but_padding_has_a_bucket():
    """Without a longest sequence, attention asks the GPU for one, which no capture allows."""
    assert Bucket.of(0, 3, 0) == (16, 4, 128)


class Fake:
    """Sums each sequence's ids, and counts what happens."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.captures = 0

    def run(self, inputs: list[Tensor], longest: int) -> tuple[Tensor, ...]:
        ids, starts = inputs
        self.runs.append((*ids.shape, len(starts) - 1, longest))
        whole = torch.cat([ids.new_zeros(1), ids.cumsum(0)])
        sums = whole[starts[1:].long()] - whole[starts[:-1].long()]
        owner = torch.searchsorted(starts[1:].contiguous(), torch.arange(len(ids)), right=True)
        return (sums[owner.clamp(max=len(sums) - 1)][:, None], ids[:, None])

    def capture(self, run, inputs: list[Tensor], longest: int) -> Captured:
        self.captures += 1
        outputs = run(inputs, longest)

        def replay() -> None:
            for held, now in zip(outputs, run(inputs, longest), strict=True):
                held.copy_(now)

        return Captured(inputs, outputs, replay)


def batch(*lengths: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    ids = torch.randint(1, 99, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    want = torch.cat([ids[a:b].sum().expand(b - a) for a, b in zip(starts, starts[1:], strict=False)])
    return ids, starts, want


def test_what_comes_twice_is_captured_and_replayed():
    fake = Fake()
    replays = Replays(fake.run, torch.device("cpu"), fake.capture)
    for number, lengths in enumerate([(5, 3, 9), (17, 1, 1), (20, 1, 3), (32,) * 3, (2, 2, 28)]):
        ids, starts, want = batch(*lengths, seed=number)
        sums, same = replays([ids], starts, max(lengths))
        assert torch.equal(sums[:, 0], want) and torch.equal(same[:, 0], ids)
        assert fake.captures == (number > 0)
    assert set(fake.runs) == {(32, 4, 128), (96, 4, 128)}  # tokens, sequences, longest


def test_under_either_mode():
    fake = Fake()
    replays = Replays(fake.run, torch.device("cpu"), fake.capture)
    for number, mode in enumerate([torch.inference_mode, torch.no_grad, torch.inference_mode, torch.enable_grad]):
        with mode():
            ids, starts, want = batch(4, 4, seed=number)
            assert torch.equal(replays([ids], starts, 4)[0][:, 0], want)
    assert fake.captures == 1


def test_the_one_used_longest_ago_goes():
    fake = Fake()
    replays = Replays(fake.run, torch.device("cpu"), fake.capture, most=2)
    for tokens in (16, 16, 32, 16, 48, 16, 32, 32):
        ids, starts, want = batch(tokens, seed=tokens)
        assert torch.equal(replays([ids], starts, tokens)[0][:, 0], want)
        assert len(replays.graphs.kept) <= 2
    assert fake.captures == 2  # of 16, which stayed, and of 32 after it had gone
