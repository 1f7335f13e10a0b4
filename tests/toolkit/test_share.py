"""Copies over the same memory: what is done to one, as moving it to a device, is not done to the others."""

from collections.abc import Callable

import pytest
import torch
from torch import fx

from tests import tiny
from tests.checks import assert_equal_bits
from toolkit import Recipe, Rule, checkpoint
from toolkit.capture import capture, from_export
from toolkit.pipeline import quantized
from toolkit.sensitivity.variants import copied

MIXED = Recipe("int", rules=(Rule("*.query", "bf16"), Rule("*.key", "fp"), Rule("*.value", scheme="weight")))
COPIES: dict[str, Callable[[fx.GraphModule], fx.GraphModule]] = {
    "of a checkpoint": checkpoint.copied,
    "for sensitivity": copied,
    "of an exported graph": from_export,
}


def tensors(graph: fx.GraphModule) -> dict[str, torch.Tensor]:
    return {**dict(graph.named_parameters()), **dict(graph.named_buffers())}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_moving_a_copy_moves_nothing_else(make: Callable[[fx.GraphModule], fx.GraphModule]) -> None:
    model = tiny.build("bert")
    graph = capture(model) if make is from_export else quantized(model, MIXED)
    batch = tiny.inputs(model, 2, 7)
    before, expected = {name: value.dtype for name, value in tensors(graph).items()}, graph(**batch).start_logits
    other = make(graph)
    held = {value.data_ptr() for value in tensors(graph).values()}
    assert {value.data_ptr() for value in tensors(other).values()} <= held  # no weight is there twice
    assert_equal_bits(other(**batch).start_logits, expected)
    other.to(torch.float64)  # a parameter is changed as it is for another device
    assert {name: value.dtype for name, value in tensors(graph).items()} == before
    assert_equal_bits(graph(**batch).start_logits, expected)
