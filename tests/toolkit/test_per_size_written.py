"""What a graph writes to or hands out is each call's own, whatever it depends on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toolkit.per_size_graphs import Model, passed, tables
from tests.toolkit.small_graphs import graph_of
from toolkit.fuse import kept


def written(x: Tensor, weight: Tensor) -> Tensor:
    return tables(x.shape[1]).mul_(x.mean()) @ x


def written_by_view(x: Tensor, weight: Tensor) -> Tensor:
    table = tables(x.shape[1])
    table[0].add_(x.mean())
    return table @ x


def written_by_unnoted_view(x: Tensor, weight: Tensor) -> Tensor:
    """type_as gives what it is given, and its schema doesn't say so"""
    table = tables(x.shape[1])
    table.type_as(x).add_(x.mean())
    return table @ x


def written_by_what_looks_pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """of what is real conj_physical gives what it is given"""
    table = tables(x.shape[1])
    torch.conj_physical(table).add_(x.mean())
    return table @ x


def returned(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return x * 2, tables(x.shape[1])


def returned_view(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return x * 2, tables(x.shape[1])[None].reshape(1, 1, x.shape[1], x.shape[1])


def parts_written(x: Tensor, weight: Tensor) -> Tensor:
    first, second = tables(2 * x.shape[1]).chunk(2)
    return first.add_(x.mean()).sum() + second.sum() + x


@pytest.mark.parametrize(
    "function",
    [
        written,
        written_by_view,
        written_by_unnoted_view,
        written_by_what_looks_pointwise,
        returned,
        returned_view,
        parts_written,
    ],
)
def test_what_is_written_to_or_returned_is_each_call_s_own(function: Callable[[Tensor, Tensor], Any]) -> None:
    graph, _ = passed(function)
    x = torch.ones(1, 7, 6)
    results = graph(x)
    for held in kept.tensors_of(results):
        held.zero_()  # a caller may write to what it is given
    torch.testing.assert_close(graph(x), graph_of(Model(function))(x), rtol=0, atol=0)


def test_what_is_read_in_place_of_something_else_is_kept() -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        return (x * 2).add_(tables(x.shape[1]).sum(0)[:, None])

    assert passed(function)[1] == 1


def test_a_parameter_that_the_graph_writes_to() -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        seen = weight[torch.arange(x.shape[1])].cos().sin().exp()
        weight.add_(1)
        return x + seen

    assert passed(function)[1] == 0
