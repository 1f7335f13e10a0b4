"""Rows of tokens and back in few steps: the values of many, and the rows' own memory where nothing is padding."""

import operator

import pytest
import torch
from torch import fx, nn

from targets._tokens import (
    in_few_steps,
    own_gelu,
    padded,
    see_as_padded,
    take_together,
    turn_by_places,
    unpack_apart,
)
from tests.checks import assert_equal_bits

aten = torch.ops.aten
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


def many_steps(dims: tuple[int, ...] = (-1, -1), read: int = 2, sliced: bool = False) -> fx.GraphModule:
    """ids, types [B, S], positions [1, S or more], a table and a mask → columns of the table's rows for their sum

    dims: of split and squeeze, read: how many columns are"""
    made = fx.Graph()
    names = ("ids", "types", "positions", "table", "mask")
    ids, types, positions, table, mask = (made.placeholder(name) for name in names)
    sizes = [made.call_function(aten.sym_size.int, (ids, dim)) for dim in (0, 1)]
    begin = made.call_function(aten.slice.Tensor, (positions, 1, 0, sizes[1])) if sliced else positions
    for node, rows in ((ids, 3), (types, 3), (begin, 1)):
        node.meta["val"] = torch.zeros(rows, 4, dtype=torch.int64)
    packed = made.call_function(torch.ops.opswap.pack_tokens.default, (mask,))
    tokens = made.call_function(operator.getitem, (packed, 0))
    wide = made.call_function(aten.expand.default, (begin, sizes))
    flat = [made.call_function(aten.reshape.default, (node, [-1])) for node in (ids, types, wide)]
    one, two, three = (made.call_function(aten.index_select.default, (node, 0, tokens)) for node in flat)
    total = made.call_function(operator.add, (made.call_function(operator.add, (one, two)), three))
    rows = made.call_function(aten.index_select.default, (table, 0, total))
    padded = made.call_function(torch.ops.opswap.unpack_tokens.default, (rows, tokens, *sizes))
    split = made.call_function(aten.split.Tensor, (padded, 1, dims[0]))
    parts = [made.call_function(operator.getitem, (split, index)) for index in range(read)]
    squeezed = [made.call_function(aten.squeeze.dim, (part, dims[1])) for part in parts]
    made.output(tuple(made.call_function(aten.contiguous.default, (part,)) for part in squeezed))
    return fx.GraphModule(nn.Module(), made)


def given(mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    ids, types = torch.randint(0, 9, mask.shape), torch.randint(0, 2, mask.shape)
    return ids, types, torch.arange(mask.shape[1])[None], torch.randn(20, 2), mask


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("read, sliced", [(1, False), (2, True)], ids=["one column", "all of longer positions"])
def test_few_steps_give_what_many_do(padding: str, read: int, sliced: bool) -> None:
    ids, types, positions, *others = given(MASKS[padding])
    inputs = ids, types, torch.cat([positions, positions], 1) if sliced else positions, *others
    graph, fewer = (many_steps(read=read, sliced=sliced) for _ in range(2))
    in_few_steps(fewer)
    fewer.recompile()
    for have, want in zip(fewer(*inputs), graph(*inputs), strict=True):
        assert_equal_bits(have, want)
    called = {node.target for node in fewer.graph.nodes}
    assert {torch.ops.opswap.take_tokens.default, torch.ops.opswap.unpack_columns.default} <= called
    assert (
        not {aten.reshape.default, aten.expand.default, aten.slice.Tensor, aten.split.Tensor, aten.squeeze.dim} & called
    )


def test_what_is_read_in_another_way_stays() -> None:
    graph = many_steps()
    split = next(iter(graph.graph.find_nodes(op="call_function", target=aten.split.Tensor)))
    output = next(iter(graph.graph.find_nodes(op="output")))
    output.args = ((*output.args[0], next(iter(split.users))),)
    assert unpack_apart(graph) == 0
    assert unpack_apart(many_steps(dims=(1, -1))) == unpack_apart(many_steps(dims=(-1, 1))) == 0


def test_ids_that_nobody_knows_the_type_of_stay() -> None:
    graph = many_steps()
    for node in graph.graph.find_nodes(op="placeholder"):
        node.meta.clear()
    assert take_together(graph) == 0


def taken_from(*sources: str) -> fx.GraphModule:
    """→ the sum of what is taken of each: whole ids [B, S], a row of S that stands for all texts, a single one, a row
    that is sliced to one, and a row made after the first ids are read"""
    made = fx.Graph()
    ids, positions, mask = (made.placeholder(name) for name in ("ids", "positions", "mask"))
    sizes = [made.call_function(aten.sym_size.int, (ids, dim)) for dim in (0, 1)]
    tokens = made.call_function(
        operator.getitem, (made.call_function(torch.ops.opswap.pack_tokens.default, (mask,)), 0)
    )

    def rows(source: str) -> fx.Node:
        row = made.call_function(aten.slice.Tensor, (positions, 1, 0, 1)) if source == "single" else positions
        row = made.call_function(aten.mul.Tensor, (positions, 2)) if source == "late" else row
        row.meta["val"] = torch.zeros(1, 1 if source == "single" else 4, dtype=torch.int64)
        wide = ids if source == "whole" else made.call_function(aten.expand.default, (row, sizes))
        flat = made.call_function(aten.reshape.default, (wide, [-1]))
        return made.call_function(
            aten.mul.Tensor, (made.call_function(aten.index_select.default, (flat, 0, tokens)), 3)
        )

    ids.meta["val"] = torch.zeros(3, 4, dtype=torch.int64)
    total = rows(sources[0])
    for source in sources[1:]:
        total = made.call_function(aten.add.Tensor, (total, rows(source)))
    made.output(total)
    return fx.GraphModule(nn.Module(), made)


TAKEN = {
    "one after the other": (("whole", "row"), 2),
    "a row alone": (("row",), 0),
    "rows alone": (("row", "single"), 0),
    "a single one for all": (("single", "whole", "row"), 2),
    "a row made in between": (("whole", "late", "row"), 2),
    "a row made before": (("late", "whole"), 2),
}


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("case", TAKEN)
def test_ids_are_taken_together_where_that_gives_the_same(case: str, padding: str) -> None:
    sources, taken = TAKEN[case]
    mask = MASKS[padding]
    inputs = torch.randint(0, 9, mask.shape), torch.arange(5, 9)[None], mask
    graph, fewer = taken_from(*sources), taken_from(*sources)
    assert take_together(fewer) == taken
    fewer.graph.lint()
    fewer.recompile()
    assert_equal_bits(fewer(*inputs), graph(*inputs))


def test_rows_that_nobody_reads() -> None:
    made = graph()
    next(iter(made.graph.find_nodes(op="output"))).args = ((),)
    assert unpack_apart(made) == 0


def turned(batch: int) -> fx.GraphModule:
    """rotary of the real tokens' rows by angles [batch, S, r], as packing leaves it"""
    made = fx.Graph()
    x, angles, tokens, size, sequence = (made.placeholder(f"input_{number}") for number in range(5))
    angles.meta["val"] = torch.empty(batch, 4, 6)
    wide = made.call_function(aten.expand.default, (angles, [size, sequence, 6]))
    flat = made.call_function(aten.reshape.default, (wide, [-1, 6]))
    taken = made.call_function(aten.index_select.default, (flat, 0, tokens))
    made.output(made.call_function(torch.ops.opswap.rotary.default, (x, taken, taken, 8, 2, True)))
    return fx.GraphModule(nn.Module(), made)


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_heads_are_turned_by_places(padding: str, batch: int) -> None:
    """Where one sequence's angles are all sequences'."""
    mask = MASKS[padding]
    if batch > 1 and len(mask) != batch:
        mask = mask[:1].expand(batch, -1)
    tokens, _ = torch.ops.opswap.pack_tokens(mask)
    given = torch.randn(len(tokens), 16), torch.randn(batch, 4, 6), tokens, *mask.shape
    lowered = turned(batch)
    assert turn_by_places(lowered) == (batch == 1)
    lowered.recompile()
    assert_equal_bits(lowered(*given), turned(batch)(*given))
    assert bool(lowered.graph.find_nodes(op="call_function", target=aten.index_select.default)) is (batch > 1)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_by_the_projects_own_threads(approximate: str) -> None:
    made = fx.Graph()
    x = made.placeholder("x")
    made.output(made.call_function(aten.gelu.default, (x,), {"approximate": approximate}))
    graph, given = fx.GraphModule(nn.Module(), made), torch.randn(5, 7)
    want = graph(given)
    assert own_gelu(graph) == 1
    graph.recompile()
    assert torch.allclose(graph(given), want, rtol=0, atol=4.3e-5)
    assert_equal_bits(graph(given), torch.ops.opswap.gelu(given, approximate == "tanh"))


@pytest.mark.parametrize(("dtype", "times"), [(torch.bfloat16, 1), (torch.float16, 0), (torch.float64, 0)])
def test_gelu_of_numbers_that_the_operator_does_not_take_stays(dtype: torch.dtype, times: int) -> None:
    made = fx.Graph()
    made.output(made.call_function(aten.gelu.default, (made.placeholder("x"),)))
    for node in made.nodes:
        node.meta["val"] = torch.empty(3, 4, dtype=dtype)
    assert own_gelu(fx.GraphModule(nn.Module(), made)) == times
