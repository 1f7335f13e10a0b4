"""A padding mask and a causal one are known by what they compute; every other mask is left alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import MistralConfig, MistralModel

from tests.toolkit.test_cache import SMALL
from toolkit import capture
from toolkit.fuse.mask import CAUSAL, LONGEST, MOST, PADDING, kind_of
from toolkit.fuse.turns import SDPA
from toolkit.inputs import KEY, Inputs
from toolkit.pipeline import PASSES, run

LOWEST = torch.finfo(torch.float32).min


def wide(mask: Tensor) -> Tensor:
    return mask.bool()[:, None, None, :]


def distance(mask: Tensor) -> Tensor:
    position = torch.arange(mask.shape[1])
    return position[:, None] - position


SHOWS_ALL = {
    "bool": lambda mask: wide(mask),
    "bool, expanded": lambda mask: wide(mask).expand(mask.shape[0], 1, mask.shape[1], mask.shape[1]),
    "additive": lambda mask: (1.0 - wide(mask).float()) * LOWEST,
    "additive, infinite": lambda mask: torch.zeros(mask.shape)[:, None, None].masked_fill(~wide(mask), -torch.inf),
    "additive, -10000": lambda mask: (1.0 - wide(mask).float()) * -10000.0,
    "anded with all": lambda mask: wide(mask) & (distance(mask) < 10**6),
}
SHOWS_EARLIER = {
    "bool": lambda mask: wide(mask) & (distance(mask) >= 0),
    "additive": lambda mask: (1.0 - (wide(mask) & (distance(mask) >= 0)).float()) * LOWEST,
    "padding looks at everything": lambda mask: (wide(mask) & (distance(mask) >= 0)) | ~wide(mask).transpose(2, 3),
}
OTHER = {
    "causal, without the padding": lambda mask: (distance(mask) >= 0).expand(len(mask), 1, -1, -1),
    "causal, but for the token itself": lambda mask: wide(mask) & (distance(mask) > 0),
    "the other way round": lambda mask: wide(mask) & (distance(mask) <= 0),
    "causal in a window": lambda mask: wide(mask) & (distance(mask) >= 0) & (distance(mask) < LONGEST // 2),
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


def verdict(function, names=("attention_mask",)) -> str | None:
    """→ what function(inputs called `names`) is taken for"""
    graph = fx.Graph()
    inputs = tuple(graph.placeholder(name) for name in names)
    result = graph.call_function(function, inputs)
    graph.output(result)
    return kind_of(fx.GraphModule(nn.Module(), graph), result)


@pytest.mark.parametrize("kind", SHOWS_ALL)
def test_padding_masks(kind):
    assert verdict(SHOWS_ALL[kind]) == PADDING


@pytest.mark.parametrize("kind", SHOWS_EARLIER)
def test_causal_masks(kind):
    assert verdict(SHOWS_EARLIER[kind]) == CAUSAL


@pytest.mark.parametrize("kind", OTHER)
def test_other_masks(kind):
    assert verdict(OTHER[kind]) is None


@pytest.mark.parametrize("window", [LONGEST - 1, LONGEST, LONGEST + 500.0, MOST - 2])
def test_a_window_beyond_what_is_tried_at_first(window):
    """Mistral's is of 4,096 tokens. Its number stands in the graph."""
    assert in_window(window) is None


@pytest.mark.parametrize("longest, kind", [(None, None), (MOST + 3, None), (MOST + 1, CAUSAL), (LONGEST, CAUSAL)])
def test_a_window_too_wide_to_try_is_no_causal_mask(longest, kind):
    """Unless no text is as long."""
    assert in_window(MOST + 1, longest) == kind


def test_a_window_that_is_held():
    gm = fx.GraphModule(nn.Module(), fx.Graph())
    gm.register_buffer("shown", distance(torch.ones(1, 4096)).abs() < 3000)
    mask, shown = gm.graph.placeholder("attention_mask"), gm.graph.get_attr("shown")
    result = gm.graph.call_function(
        lambda mask, shown: wide(mask) & shown[: mask.shape[1], : mask.shape[1]], (mask, shown)
    )
    gm.graph.output(result)
    gm.meta[KEY] = Inputs(("attention_mask",), (), 4096)
    assert kind_of(gm, result) is None


@pytest.mark.parametrize("low", [-10000, -65504, -(10**9), -10000.0])
def test_numbers_that_are_scores(low):
    aten, graph = torch.ops.aten, fx.Graph()
    mask = graph.placeholder("attention_mask")
    rows = graph.call_function(wide, (mask,))
    hidden = graph.call_function(aten.bitwise_not.default, (rows,))
    result = graph.call_function(aten.mul.Tensor, (graph.call_function(aten.to.dtype, (hidden, torch.float32)), low))
    filled = graph.call_function(
        aten.masked_fill.Scalar, (graph.call_function(aten.zeros_like.default, (result,)), hidden, low)
    )
    graph.output((result, filled))
    gm = fx.GraphModule(nn.Module(), graph)
    assert [kind_of(gm, one) for one in (result, filled)] == [PADDING, PADDING]


@pytest.mark.parametrize("number", [10**9, 2**31, 2**63 - 1])
def test_numbers_that_are_no_window(number):
    assert in_window(number, longest=4096) == CAUSAL


def in_window(window: float, longest: int | None = None) -> str | None:
    """→ what a causal mask is taken for in which no token sees the `window` that stand before it, or those before"""
    aten, graph = torch.ops.aten, fx.Graph()
    mask = graph.placeholder("attention_mask")
    places = graph.call_function(aten.arange.default, (graph.call_function(aten.sym_size.int, (mask, 1)),))
    own = graph.call_function(aten.unsqueeze.default, (places, 1))
    first = graph.call_function(aten.sub.Tensor, (own, window))
    parts = [graph.call_function(aten.gt.Tensor, (places, first)), graph.call_function(aten.le.Tensor, (places, own))]
    parts.append(graph.call_function(wide, (mask,)))
    result = graph.call_function(lambda one, two, three: one & two & three, tuple(parts))
    graph.output(result)
    gm = fx.GraphModule(nn.Module(), graph)
    gm.meta[KEY] = Inputs(("attention_mask",), (), longest)
    return kind_of(gm, result)


@pytest.mark.parametrize("window, kind", [(2500, None), (5000, CAUSAL)])
def test_a_models_window(window, kind):
    sizes = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 4096, "sliding_window": window}
    gm = capture(MistralModel(MistralConfig(**sizes, use_cache=False)))
    run(gm, PASSES)
    masks: list[Any] = [node.args[3] for node in gm.graph.find_nodes(op="call_function", target=SDPA)]
    assert [kind_of(gm, mask) for mask in masks] == [kind] * 2


def test_a_mask_of_another_input():
    names = ("attention_mask", "input_ids")
    assert verdict(wide, names=("input_ids",)) is None
    assert verdict(lambda mask, ids: wide(mask) & wide(ids), names) is None
    assert verdict(lambda mask, ids: wide(mask) & (wide(ids) | ~wide(ids)), names) == PADDING
