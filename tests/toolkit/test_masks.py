"""A padding mask is known by what it computes; every other mask is left alone."""

import pytest
import torch
from torch import Tensor, fx, nn

from tests import tiny
from tests.toolkit.fusing import fused, unfused
from toolkit.fuse import NAMES
from toolkit.fuse.mask import LONGEST, is_padding_mask

LOWEST = torch.finfo(torch.float32).min


def wide(mask: Tensor) -> Tensor:
    return mask.bool()[:, None, None, :]


def distance(mask: Tensor) -> Tensor:
    position = torch.arange(mask.shape[1])
    return position[:, None] - position


PADDING = {
    "bool": lambda mask: wide(mask),
    "bool, expanded": lambda mask: wide(mask).expand(mask.shape[0], 1, mask.shape[1], mask.shape[1]),
    "additive": lambda mask: (1.0 - wide(mask).float()) * LOWEST,
    "additive, infinite": lambda mask: torch.zeros(mask.shape)[:, None, None].masked_fill(~wide(mask), -torch.inf),
    "additive, -10000": lambda mask: (1.0 - wide(mask).float()) * -10000.0,
    "anded with all": lambda mask: wide(mask) & (distance(mask) < 10**6),
}
OTHER = {
    "causal": lambda mask: wide(mask) & (distance(mask) >= 0),
    "a window as wide as half of the longest": lambda mask: wide(mask) & (distance(mask).abs() < LONGEST // 2),
    "inverted": lambda mask: ~wide(mask),
    "everything": lambda mask: torch.ones_like(wide(mask)),
    "of the queries": lambda mask: wide(mask).transpose(2, 3).expand(-1, 1, -1, mask.shape[1]),
    "only to itself": lambda mask: wide(mask) & (distance(mask) == 0),
    "weak": lambda mask: (1.0 - wide(mask).float()) * -10.0,
    "with a bias": lambda mask: (1.0 - wide(mask).float()) * LOWEST - distance(mask).abs().float(),
    "a head of its own each": lambda mask: wide(mask).expand(-1, 4, -1, -1),
    "two dimensions": lambda mask: mask.bool(),
    "of one batch size": lambda mask: wide(mask) & torch.ones(2, 1, 1, 1, dtype=torch.bool),
}


def verdict(function, names=("attention_mask",)) -> bool:
    """→ whether function(inputs called `names`) is taken for the padding mask"""
    graph = fx.Graph()
    inputs = tuple(graph.placeholder(name) for name in names)
    result = graph.call_function(function, inputs)
    graph.output(result)
    return is_padding_mask(fx.GraphModule(nn.Module(), graph), result)


@pytest.mark.parametrize("kind", PADDING)
def test_padding_masks(kind):
    assert verdict(PADDING[kind])


@pytest.mark.parametrize("kind", OTHER)
def test_other_masks(kind):
    assert not verdict(OTHER[kind])


def test_a_mask_of_another_input():
    assert not verdict(wide, names=("input_ids",))
    assert not verdict(lambda mask, ids: wide(mask) & wide(ids), names=("attention_mask", "input_ids"))
    assert verdict(lambda mask, ids: wide(mask) & (wide(ids) | ~wide(ids)), names=("attention_mask", "input_ids"))


def test_a_causal_model_is_left_alone_and_the_log_says_so(caplog):
    with caplog.at_level("INFO", logger="toolkit.fuse.attention"):
        graph, counts = fused(unfused("gpt2"), set(NAMES) - {"gelu_steps"})
    assert not any(counts.values())
    assert [line.partition(": ")[2] for line in caplog.messages] == ["its mask is no padding mask"] * 2
    given = tiny.inputs(tiny.build("gpt2"), 3, 17)
    assert torch.equal(graph(**given)[0], unfused("gpt2")(**given)[0])
