"""What is nearly DeBERTa's attention, written out by hand, gives what it gave: only that attention itself is fused."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from tests.checks import assert_sqnr
from toolkit.pipeline import PASSES, fuse, run

HEADS, D, COUNT = 4, 8, 16
IDS = torch.randint(0, 50, (3, 6), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(6) < torch.tensor([6, 3, 5])[:, None]).long()
LIKE = [
    "distances of the first sequence for all",
    "distances of the first token for all",
    "distances to the first token for all",
    "an index of each sequence",
    "another scale",
    "another key",
    "softmax over queries",
    "filled where an additive mask is 0",
    "a causal mask",
    "fewer heads in the end",
    "weights that are returned",
]


class Like(nn.Module):
    """input_ids, attention_mask [B, S] → [B, S, 32]; kind: one of LIKE, or "it" """

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.words = kind, nn.Embedding(50, HEADS * D)
        self.query, self.key, self.value = (nn.Linear(HEADS * D, HEADS * D) for _ in range(3))
        few = kind == "fewer heads in the end"
        self.far = nn.Parameter(torch.randn(HEADS // 2 if few else HEADS, COUNT, D))
        self.requires_grad_(False)
        self.query.weight.mul_(3)
        self.key.weight.mul_(3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        x, (batch, size) = self.words(input_ids), input_ids.shape
        query, key, value = (apart(linear(x)) for linear in (self.query, self.key, self.value))
        mask = attention_mask[:, None, None] * attention_mask[:, None, :, None]
        scores = torch.bmm(query, key.transpose(1, 2) / 4.0) + self.added(query, key, attention_mask)
        scores = self.masked(scores.view(-1, HEADS, size, size), mask)
        weights = scores.softmax(-2 if self.kind == "softmax over queries" else -1)
        heads = HEADS // 2 if self.kind == "fewer heads in the end" else HEADS
        mixed = torch.bmm(weights.view(-1, size, size), value).view(batch, heads, size, HEADS // heads * D)
        y = mixed.transpose(1, 2).reshape(batch, size, HEADS * D)
        return (y, weights.sum((1, 3))) if self.kind == "weights that are returned" else y

    def added(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        size, rows = query.shape[1], query.shape[0]
        place = torch.arange(size)
        index = (place[:, None] - place + COUNT // 2).clamp(0, COUNT - 1)[None]
        if self.kind == "distances of the first sequence for all":
            wide = index.expand(1, size, size)
        elif self.kind == "distances of the first token for all":
            wide = index[:, :1].expand(rows, 1, size)
        elif self.kind == "distances to the first token for all":
            wide = index[:, :, :1].expand(rows, size, 1)
        elif self.kind == "an index of each sequence":
            wide = (index * mask[:, :1, None]).repeat_interleave(HEADS, 0)
        else:
            wide = index.expand(rows, size, size)
        far = self.far.repeat(rows // len(self.far), 1, 1)
        source = key if self.kind == "another key" else query
        gathered = torch.gather(torch.bmm(source, far.transpose(1, 2)), -1, wide)
        return gathered / (5.0 if self.kind == "another scale" else 4.0)

    def masked(self, scores: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "filled where an additive mask is 0":
            return scores.masked_fill(torch.logical_not((1.0 - mask) * -3e4), -1e38)
        shown = mask.bool()
        return scores.masked_fill(~(shown.tril() if self.kind == "a causal mask" else shown), -1e38)


def apart(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], HEADS, D).transpose(1, 2).reshape(-1, x.shape[1], D)


def fused(kind: str) -> tuple[fx.GraphModule, fx.GraphModule, dict[str, int]]:
    """→ the graph, its fused twin, and the counts"""
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=3)}
    exported = torch.export.export(Like(kind).eval(), (IDS, MASK), dynamic_shapes=(sizes, sizes))
    twins = [exported.module(check_guards=False) for _ in range(2)]
    before, after = (fx.GraphModule(one, one.graph) for one in twins)
    run(after, PASSES)
    return before, after, fuse(after, ["disentangled"])


def test_it_is_fused() -> None:
    before, after, counts = fused("it")
    assert counts == {"disentangled": 1}
    assert_sqnr(after(IDS, MASK)[MASK.bool()], before(IDS, MASK)[MASK.bool()], 100)


@pytest.mark.parametrize("kind", LIKE)
def test_what_is_like_it_is_left_alone(kind: str) -> None:
    before, after, counts = fused(kind)
    have, want = after(IDS, MASK), before(IDS, MASK)
    for one, other in zip(have, want, strict=True) if isinstance(want, tuple) else [(have, want)]:
        assert torch.equal(one, other)
    assert counts == {"disentangled": 0}
