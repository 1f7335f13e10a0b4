"""Attention that is written out in small steps becomes one operator; what only looks like it stays."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.checks import assert_sqnr
from tests.toolkit.small_graphs import X, assert_fused_out_of_place_alone, count, graph_of
from toolkit.fuse.attention_steps import raise_attention
from toolkit.passes import drop_assertions
from toolkit.pipeline import clean, run

SDPA = torch.ops.aten.scaled_dot_product_attention.default
ROOT = math.sqrt(3)
Steps = Callable[
    [Tensor, Tensor, Tensor, Tensor], Tensor
]  # query, key, value [B, 2, S, 3] and a mask [S, S] → [B, 2, S, 3]


class Written(nn.Module):
    """Attention of two heads by `steps`."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.view(*x.shape[:2], 2, 3).permute(0, 2, 1, 3) for y in (x, x + 1, x * 2))
        mask = torch.ones(x.shape[1], x.shape[1]).tril().log()
        return self.steps(q, k, v, mask).transpose(1, 2).reshape(x.shape)


def in_place(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.matmul(q, k.transpose(-1, -2)) / ROOT
    scores += mask
    return torch.matmul(scores.softmax(-1), v)


def keys_turned_at_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return ((q @ k.permute(0, 2, 1, 3).permute(0, 2, 3, 1)) * 0.5 + mask).softmax(-1) @ v


def keys_turned_twice(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    keys = k.permute(0, 2, 1, 3).permute(0, 2, 3, 1).transpose(2, 3)
    return (q @ k.transpose(2, 3) @ keys).softmax(-1) @ v[:, :, :3]


def read_elsewhere(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    probabilities = (q @ k.transpose(2, 3) + mask).softmax(-1)
    return probabilities @ v + probabilities.sum()


def changed_in_between(which: int) -> Steps:
    def steps(*given: Tensor) -> Tensor:
        q, k, v, mask = parts = [part.clamp(min=-5) for part in given]
        scores = q @ k.transpose(-1, -2) + mask
        parts[which].mul_(3)
        return scores.softmax(-1) @ v + parts[which][..., -1:]

    return steps


def twice(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(2, 3)
    return (scores + scores).softmax(-1) @ v


def by_themselves(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    probabilities = (q @ k.transpose(2, 3)).softmax(-1)
    return probabilities @ probabilities @ v


def rounded(to: torch.dtype) -> Steps:
    """In bfloat16 but for the softmax, which is converted to `to`"""

    def steps(*given: Tensor) -> Tensor:
        q, k, v, mask = (part.bfloat16() for part in given)
        probabilities = (q @ k.transpose(2, 3) + mask).softmax(-1, dtype=torch.float32)
        return (probabilities.to(to) @ v.to(to)).float()

    return steps


def then_a_view(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Of batch and heads as one: PyTorch's attention puts the heads side by side in memory, a product does not."""
    y = (q @ k.transpose(2, 3) + mask).softmax(-1) @ v
    return y.view(-1, *y.shape[2:]).view(y.shape)


TAKEN: dict[str, Steps] = {
    "plain": lambda q, k, v, mask: (q @ k.transpose(-1, -2)).softmax(-1) @ v,
    "scores divided": lambda q, k, v, mask: (q @ k.transpose(-1, -2) / ROOT + mask).softmax(-1) @ v,
    "scores multiplied": lambda q, k, v, mask: (q @ k.transpose(2, 3) * 0.3 + mask).softmax(3) @ v,
    "query divided": lambda q, k, v, mask: ((q / ROOT) @ k.transpose(-1, -2) + mask).softmax(-1) @ v,
    "mask first": lambda q, k, v, mask: (mask + q @ k.transpose(-1, -2)).softmax(-1) @ v,
    "two masks": lambda q, k, v, mask: (q @ k.transpose(-1, -2) + mask * 2 + mask).softmax(-1) @ v,
    "in float32": lambda q, k, v, mask: (q @ k.transpose(2, 3) + mask).softmax(-1, dtype=torch.float32) @ v,
    "keys turned at once": keys_turned_at_once,
    "keys turned twice": keys_turned_twice,
    "then a view": then_a_view,
}
LEFT: dict[str, Steps] = {
    "scaled after the mask": lambda q, k, v, mask: ((q @ k.transpose(-1, -2) + mask) / ROOT).softmax(-1) @ v,
    "over queries": lambda q, k, v, mask: (q @ k.transpose(-1, -2)).softmax(-2) @ v,
    "the mask twice": lambda q, k, v, mask: (q @ k.transpose(-1, -2)).add(mask, alpha=2).softmax(-1) @ v,
    "keys not turned": lambda q, k, v, mask: (q @ k.reshape(*k.shape[:2], 3, -1)).softmax(-1) @ v,
    "in double": lambda q, k, v, mask: (q @ k.transpose(-1, -2) + mask).softmax(-1, dtype=torch.float64).float() @ v,
    "left in float32": rounded(torch.float32),
    "read elsewhere": read_elsewhere,
    "a number added": lambda q, k, v, mask: (q @ k.transpose(2, 3) + 0.5).softmax(-1) @ v,
    "divided by nothing": lambda q, k, v, mask: (q @ k.transpose(2, 3) / 0 + mask).softmax(-1) @ v,
    "added to themselves": twice,
    "averaged by themselves": by_themselves,
    "a mask of one dimension": lambda q, k, v, mask: (q @ k.transpose(2, 3) + mask[-1]).softmax(-1) @ v,
    "a mask of none": lambda q, k, v, mask: (q @ k.transpose(2, 3) + mask[0, 0]).softmax(-1) @ v,
    "more masks than scores": lambda q, k, v, mask: (q[:, :1] @ k[:, :1].mT + v[:, :, None, :, 0]).softmax(-1) @ v,
}


@pytest.mark.parametrize("steps", TAKEN.values(), ids=TAKEN)
def test_one_operator(steps: Steps) -> None:
    gm = graph_of(Written(steps))
    before = gm(X)
    assert raise_attention(gm) == 1
    clean(gm)
    assert count(gm, SDPA) == 1 and count(gm, torch.ops.aten.softmax.int) == 0
    (node,) = gm.graph.find_nodes(op="call_function", target=SDPA)
    assert [str(size) for size in node.meta["val"].shape[1::2]] == ["2", "3"], "fusions go by the shape"
    assert_sqnr(gm(X), before, 120)


def test_softmax_in_float32_of_scores_in_16_bits() -> None:
    gm = graph_of(Written(rounded(torch.bfloat16)))
    run(gm, [drop_assertions])
    before = gm(X)
    assert raise_attention(gm) == 1
    clean(gm)
    assert count(gm, torch.ops.aten.softmax.int) == 0
    assert_sqnr(gm(X), before, 40)


@pytest.mark.parametrize("steps", LEFT.values(), ids=LEFT)
def test_others_stay(steps: Steps) -> None:
    gm = graph_of(Written(steps))
    run(gm, [drop_assertions])
    assert raise_attention(gm) == 0


@pytest.mark.parametrize(
    "steps",
    [in_place, changed_in_between(0), changed_in_between(3)],
    ids=["the scores", "the query", "the mask"],
)
def test_what_changes_in_place(steps: Steps) -> None:
    assert_fused_out_of_place_alone(Written(steps), "attention_steps", 1)


def test_layers_share_the_sum_of_their_masks() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q = x.view(*x.shape[:2], 2, 3).transpose(1, 2)
            low = torch.ones(x.shape[1], x.shape[1]).tril().log()
            near = -torch.arange(x.shape[1], dtype=torch.float32)
            for _ in range(2):
                q = (q @ q.transpose(-1, -2) + low + near).softmax(-1) @ q
            return q.transpose(1, 2).reshape(x.shape)

    gm = graph_of(Two())
    before = gm(X)
    assert raise_attention(gm) == 2
    clean(gm)
    assert len({node.args[3] for node in gm.graph.find_nodes(op="call_function", target=SDPA)}) == 1
    assert_sqnr(gm(X), before, 120)
