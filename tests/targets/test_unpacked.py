"""Rows read as padded batches: the operator's values, and the rows' own memory where nothing is padding."""

import pytest
import torch
from torch import fx, nn

from targets._unpacked import padded, see_as_padded
from tests.checks import assert_equal_bits

MASKS = {
    "none": torch.ones(3, 4),
    "some": torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]]),
    "all": torch.zeros(2, 4),
}


def graph() -> fx.GraphModule:
    made = fx.Graph()
    given = [made.placeholder(name) for name in ("rows", "tokens", "batch", "sequence")]
    made.output(made.call_function(torch.ops.opswap.unpack_tokens.default, tuple(given)))
    return fx.GraphModule(nn.Module(), made)


@pytest.mark.parametrize("padding", MASKS)
def test_equals_the_operator(padding: str) -> None:
    mask = MASKS[padding]
    tokens, _ = torch.ops.opswap.pack_tokens(mask)
    rows = torch.randn(len(tokens), 5)
    before = graph()(rows, tokens, *mask.shape)
    lowered = graph()
    assert see_as_padded(lowered) == 1
    lowered.recompile()
    after = lowered(rows, tokens, *mask.shape)
    assert_equal_bits(after, before)
    assert (after.data_ptr() == rows.data_ptr()) is (padding == "none")


def test_rows_of_a_head_without_columns() -> None:
    assert padded(torch.empty(6, 0), torch.arange(6), 2, 3).shape == (2, 3, 0)
