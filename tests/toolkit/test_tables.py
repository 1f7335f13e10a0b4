"""A mask that is padding and a table of positions is taken apart: the table is made of sizes and parameters alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from tests.checks import assert_equal_bits
from toolkit.fuse.mask import MASK
from toolkit.fuse.per_size import keep_per_size
from toolkit.fuse.tables import table_of

LOWEST = torch.finfo(torch.float32).min
TABLE = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


def wide(mask: Tensor) -> Tensor:
    return mask.bool()[:, None, None, :]


def distance(mask: Tensor) -> Tensor:
    position = torch.arange(mask.shape[1])
    return position[:, None] - position


def by_distance(mask: Tensor, table: Tensor) -> Tensor:
    """[1, heads, S, S]"""
    return table[:, distance(mask).abs().clamp(max=63)][None]


Mask = Callable[[Tensor, Tensor, Tensor], Tensor]  # of attention_mask, ids and a parameter
TAKEN: dict[str, Mask] = {
    "a window": lambda mask, ids, table: wide(mask) & (distance(mask).abs() <= 2),
    "a causal window": lambda mask, ids, table: wide(mask) & (distance(mask) >= 0) & (distance(mask) < 3),
    "a window, as numbers": lambda mask, ids, table: (~(wide(mask) & (distance(mask).abs() <= 2))) * LOWEST,
    "distances": lambda mask, ids, table: by_distance(mask, table) + (1.0 - wide(mask).float()) * LOWEST,
    "distances, the mask once more": lambda mask, ids, table: (
        by_distance(mask, table) + (1.0 - wide(mask).float()) * LOWEST
    ).masked_fill(~wide(mask), -torch.inf),
    "distances of a batch": lambda mask, ids, table: (
        by_distance(mask, table).expand(ids.shape[0], -1, -1, -1).contiguous()
        + torch.zeros(mask.shape)[:, None, None].masked_fill(~wide(mask), -torch.inf)
    ),
    "padding alone": lambda mask, ids, table: wide(mask),
    "with -10000": lambda mask, ids, table: (1.0 - wide(mask).float()) * -10000.0 - distance(mask).abs().float(),
    "of keys": lambda mask, ids, table: (1.0 - wide(mask).float()) * LOWEST + torch.arange(mask.shape[1]),
}
OTHER: dict[str, Mask] = {
    "no padding": lambda mask, ids, table: by_distance(mask, table) + 0 * mask[:, None, None],
    "no padding, and no mask": lambda mask, ids, table: by_distance(mask, table),
    "padding is weak": lambda mask, ids, table: by_distance(mask, table) + (1.0 - wide(mask).float()) * -10.0,
    "distances between real tokens": lambda mask, ids, table: (
        (1.0 - wide(mask).float()) * LOWEST + (mask.cumsum(1) * mask)[:, None, None].float()
    ),
    "of what is read": lambda mask, ids, table: wide(mask) & (ids[:, None, None] > 3),
    "of segments": lambda mask, ids, table: wide(mask) & (ids[:, None, None] == ids[:, None, :, None]),
    "of the first real token": lambda mask, ids, table: (
        wide(mask) & (distance(mask) <= mask.argmax(1)[:, None, None, None])
    ),
    "of how many sequences there are": lambda mask, ids, table: (1.0 - wide(mask).float()) * LOWEST + mask.shape[0],
}


class Masked(nn.Module):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask, self.table = mask, nn.Parameter(TABLE.clone())

    def forward(self, attention_mask: Tensor, input_ids: Tensor) -> Tensor:
        return self.mask(attention_mask, input_ids, self.table).clone()


def captured(mask: Mask) -> fx.GraphModule:
    example = torch.ones(2, 7, dtype=torch.int64)
    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    exported = torch.export.export(Masked(mask), (example, example.clone()), dynamic_shapes=(size, size))
    module = exported.module(check_guards=False)
    module.graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(module, module.graph)


def parted(mask: Mask) -> tuple[fx.GraphModule, fx.Node | None]:
    """→ the graph of `mask`, and its table, which it returns too"""
    graph = captured(mask)
    output = graph.graph.output_node()
    whole = output.args[0][0]  # type: ignore[index]
    assert any(node.name == MASK for node in graph.graph.find_nodes(op="placeholder"))
    with graph.graph.inserting_before(output):
        table = table_of(graph, whole)
        if table is not None:
            output.args = ((whole, graph.graph.call_function(torch.ops.aten.clone.default, (table,))),)
    graph.graph.lint()
    graph.recompile()
    return graph, table


@pytest.mark.parametrize("name", TAKEN)
def test_the_table_is_the_mask_without_padding(name: str) -> None:
    graph, table = parted(TAKEN[name])
    assert table is not None
    for batch, length in ((3, 9), (1, 30), (2, 1)):
        ones = torch.ones(batch, length, dtype=torch.int64)
        real = torch.randint(0, 2, (batch, length), generator=torch.Generator().manual_seed(0))
        want, have = graph(real, ones)[1], graph(ones, 5 * ones)[1]
        assert_equal_bits(have, want)  # padding does not change it
        assert_equal_bits(have, TAKEN[name](ones[:1], ones[:1], TABLE))


@pytest.mark.parametrize("name", ["a window", "distances", "distances of a batch"])
def test_the_table_is_made_once_for_each_size(name: str) -> None:
    graph, _ = parted(TAKEN[name])
    assert keep_per_size(graph) == 1
    graph.graph.eliminate_dead_code()
    made = graph.graph.output_node().args[0][1].args[0]  # type: ignore[index, union-attr]
    assert made.args[0].op == "call_module"


@pytest.mark.parametrize("name", OTHER)
def test_any_other_mask_is_left_whole(name: str) -> None:
    graph, table = parted(OTHER[name])
    assert table is None
    assert [str(node) for node in graph.graph.nodes] == [str(node) for node in captured(OTHER[name]).graph.nodes]
