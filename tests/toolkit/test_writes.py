"""What a model writes in place, on small graphs: out of place, and every read reads what it did."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from targets._memory import written_by
from tests.toolkit.small_graphs import X, graph_of
from toolkit.pipeline import clean
from toolkit.writes import out_of_place, written

Given = Callable[[Tensor], Tensor]


@torch.library.custom_op("opswap_tests::increase", mutates_args=("x",))
def increase(x: Tensor) -> None:
    """x + 1, in place, and nothing is returned"""
    x.add_(1)


@increase.register_fake
def _(x: Tensor) -> None:
    return None


class Function(nn.Module):
    def __init__(self, function: Given) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def after(change: Callable[[Tensor], object], make: Given = lambda x: x + 1, read: Given = lambda y: y * 2) -> Given:
    """y is made, read, changed and read again"""

    def function(x: Tensor) -> Tensor:
        y = make(x)
        before = read(y)
        change(y)
        return before - read(y)

    return function


def with_a_view(view: Given) -> Given:
    """a view that is made before the change, and read after it"""

    def function(x: Tensor) -> Tensor:
        y = x + 1
        seen = view(y)
        y[:, 0] += 3
        y.mul_(2)
        return seen * y.sum()

    return function


def two_parts(x: Tensor) -> Tensor:
    y = x + 1
    first, second = y[:, 0], y[:, :, 1]
    first += 1
    second *= first.sum()
    return y * first[:, None]


def turned_over(x: Tensor) -> Tensor:
    mask = x > 0
    before = x * mask
    return before - x * mask.logical_not_()


def given_as_out(x: Tensor) -> Tensor:
    """what is written is no first argument"""
    y, made = x + 1, torch.empty_like(x)
    return torch.add(y, 1, out=made) * y


TAKEN: dict[str, Given] = {
    "read before and after": after(lambda y: y.add_(1)),
    "several": after(lambda y: y.add_(1).mul_(y).relu_()),
    "one position": after(lambda y: y[:, 0].fill_(7)),
    "a part of a part": after(lambda y: y[:, 1:, 2].copy_(y[:, 1:, 0])),
    "a slice": after(lambda y: y[:, :2].add_(y[:, 2:4])),
    "masked": after(lambda y: y.masked_fill_(y > 0, -1.0)),
    "by index": after(lambda y: y.__setitem__(y > 0, 0.0)),
    "an axis more": lambda x: (x + 1).unsqueeze_(0).sum(0).mul_(2),
    "of a matmul": after(lambda y: y.add_(1), lambda x: x @ x.transpose(1, 2)),
    "whole numbers": after(lambda y: y.add_(1), lambda x: (x * 9).long()),
    "a part in double": after(lambda y: y[:, 0].copy_(y[:, 1].double())),
    "a mask": turned_over,
    "sums of whole numbers": after(lambda y: y.cumsum_(1), lambda x: (x * 9).long()),
    "a view before": with_a_view(lambda y: y.transpose(1, 2)[:, 0, :1, None]),
    "two parts": two_parts,
}
LEFT: dict[str, Given] = {
    "what is given": lambda x: x.add_(1) * 2,
    "a part of what is given": after(lambda x: x[:, 0].mul_(2), lambda x: x.view(x.shape)),
    "that may be a view": after(lambda y: y.add_(1), lambda x: torch.einsum("bsc->bcs", x)),
    "that is what was given": after(lambda y: y.add_(1), lambda x: x.type_as(x)),
    "dimensions that are there": after(lambda y: y.add_(1), lambda x: torch.atleast_2d(x)),
    "a reshape that may copy": with_a_view(lambda y: y.transpose(1, 2).reshape(-1)[:1]),
    "another dtype": after(lambda y: y.mul_(X[:2, :5, :1].double().mean()), lambda x: (x > 0).float()),
    "numbers that say whether": after(lambda y: y.gt_(0.5)),
    "numbers that say whether not": after(lambda y: y.logical_not_()),
    "sums of short whole numbers": after(lambda y: y.cumsum_(1), lambda x: (x * 9).int()),
    "a power, whose twin is a number's": after(lambda y: y.pow_(2)),
    "what is given as out": given_as_out,
    "a view that no schema says": with_a_view(lambda y: torch.ops.aten._unsafe_view(y, y.shape)),
    "parts that no schema says": with_a_view(lambda y: torch.unsafe_split(y, 3, 2)[0]),
    "by an operator that returns nothing": after(increase),
}


def same(function: Given) -> tuple[int, torch.fx.GraphModule]:
    """→ how many were rewritten, and the graph, which gives what it gave and changes what it is given as it did"""
    gm = graph_of(Function(function))
    given, again = X.clone(), X.clone()
    before = gm(given)
    done = out_of_place(gm)
    clean(gm)
    after = gm(again)
    assert after.dtype == before.dtype and torch.equal(after, before) and torch.equal(again, given)
    return done, gm


@pytest.mark.parametrize("function", TAKEN.values(), ids=TAKEN)
def test_out_of_place(function: Given) -> None:
    done, gm = same(function)
    assert done and not any(written_by(node) for node in gm.graph.nodes)


@pytest.mark.parametrize("function", LEFT.values(), ids=LEFT)
def test_what_others_may_see_is_left(function: Given) -> None:
    _, gm = same(function)
    assert written(gm)


def test_what_nobody_reads_is_not_in_the_way() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return x * 2

    gm = graph_of(Counting())
    assert any(written_by(node) for node in gm.graph.nodes) and not written(gm)


class TwoNames(nn.Module):
    """`whole` is written to, and what it was is read by the name of a part of it"""

    whole: Tensor
    part: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.ones(6))
        self.register_buffer("part", self.whole[:3])

    def forward(self, x: Tensor) -> Tensor:
        self.whole.add_(1)
        return x * self.part.sum()


def test_a_buffer_by_another_name_is_read() -> None:
    assert written(graph_of(TwoNames()))
