"""Which calls become one, in graphs made by hand: what must stay between them stays, and no answer changes."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from operators import kernels
from targets._calls import in_one_call
from tests.checks import assert_equal_bits
from tests.targets.test_calls import calls_of

opswap, aten = torch.ops.opswap, torch.ops.aten
kernels.load()  # what has none is in no run


class Given(nn.Module):
    """A module of a target's that does `what` with a tensor and a number"""

    __module__ = "targets.given"

    def __init__(self, what: Callable[..., Any]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor, number: int) -> Any:
        return self.what(x, number)


def quantized(x: Tensor, *settings: Any) -> Tensor:
    return opswap.quantize_per_token(x, *settings)[0]


# what a module does, and of how many operators the graph's one call then is, with the one before it
DONE: dict[str, tuple[Callable[..., Any], int]] = {
    "quantizes": (lambda x, n: quantized(x, True), 2),
    "hands a number on": (lambda x, n: quantized(x, True, 0.1, n), 2),
    "asks for a shape": (lambda x, n: quantized(x, x.shape[0] == 3), 0),
    "compares a number": (lambda x, n: quantized(x, n == 3), 0),
    "reckons with a number": (lambda x, n: quantized(x, True, 0.1 * (n + 1), 128), 0),
    "adds": (lambda x, n: quantized(x + 1, True), 0),
    "multiplies": (lambda x, n: quantized(0.5 * x, True), 0),
    "negates": (lambda x, n: quantized(-x, True), 0),
    "takes a part": (lambda x, n: quantized(x[0:1], True), 0),
    "asks for its length": (lambda x, n: quantized(x, len(x) == 3), 0),
    "asks what it is": (lambda x, n: quantized(x, bool(x.sum() > 0)), 0),
    "calls PyTorch": (lambda x, n: quantized(torch.relu(x), True), 0),
    "gives what it was given": (lambda x, n: x, 0),
}


@pytest.mark.parametrize("done", DONE)
def test_a_module_that_does_more_than_call_is_left_alone(done: str) -> None:
    """The answer is the same whatever it does, and nothing is raised."""
    what, counted = DONE[done]
    made = fx.Graph()
    x = made.placeholder("x")
    rows = made.call_function(opswap.quantize_per_token.default, (x, False))
    size = made.call_function(aten.sym_size.int, (x, 0))
    made.output(
        (made.call_module("given", (x, size)), *(made.call_function(operator.getitem, (rows, i)) for i in (0, 2)))
    )
    root = nn.Module()
    root.given = Given(what)
    graph, x = fx.GraphModule(root, made), torch.randn(3, 8)
    before = graph(x)
    assert in_one_call(graph) == counted
    graph.graph.lint()
    for got, wanted in zip(graph(x), before, strict=True):
        assert_equal_bits(got, wanted)


def by_hand(between: str) -> fx.GraphModule:
    """x [T, K] → quantize, and columns of it; `between` reads x ("beside"), or what was quantized ("in the way")"""
    made = fx.Graph()
    x = made.placeholder("x")
    rows = made.call_function(opswap.quantize_per_token.default, (x, True))
    q, scale, zero = (made.call_function(operator.getitem, (rows, index)) for index in range(3))
    source = x if between == "beside" else scale
    double = made.call_function(aten.add.Tensor, (source, source))
    again: Any = made.call_function(opswap.quantize_per_token.default, (x, True))
    other = made.call_function(operator.getitem, (again, 0))
    made.output((q, zero, double, other))
    return fx.GraphModule(nn.Module(), made)


@pytest.mark.parametrize("between, counted", [("beside", 2), ("in the way", 0)])
def test_only_what_reads_a_result_ends_a_run(between: str, counted: int) -> None:
    """Two calls beside a third thing are one; each by itself stays as it is."""
    x = torch.randn(3, 8)
    graph = by_hand(between)
    before = graph(x)
    assert in_one_call(graph) == counted
    graph.graph.lint()
    for got, wanted in zip(graph(x), before, strict=True):
        assert_equal_bits(got, wanted)
    assert len(calls_of(graph)) == counted // 2


def test_what_works_in_place_ends_a_run() -> None:
    """The first call is done before it, the second after it, though neither reads what it returns."""
    made = fx.Graph()
    x = made.placeholder("x")
    first = made.call_function(opswap.quantize_per_token.default, (x, True))
    made.call_function(aten.add_.Tensor, (x, 1))
    second = made.call_function(opswap.quantize_per_token.default, (x, True))
    made.output(tuple(made.call_function(operator.getitem, (rows, 0)) for rows in (first, second)))
    graph, x = fx.GraphModule(nn.Module(), made), torch.randn(3, 8)
    before = graph(x.clone())
    assert in_one_call(graph) == 0
    for got, wanted in zip(graph(x.clone()), before, strict=True):
        assert_equal_bits(got, wanted)


def test_what_writes_to_a_cache_stays_where_it_is() -> None:
    made = fx.Graph()
    qkv, keys, values, mask = (made.placeholder(name) for name in ("qkv", "keys", "values", "mask"))
    y = made.call_function(opswap.attention_cached.default, (qkv, keys, values, 0, mask, 2, 0.5, True))
    read = made.call_function(aten.clone.default, (keys,))
    rows = made.call_function(opswap.quantize_per_token.default, (qkv, True))
    made.output((y, read, made.call_function(operator.getitem, (rows, 0))))
    graph = fx.GraphModule(nn.Module(), made)
    given = torch.randn(3, 24), torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), torch.ones(1, 3, dtype=torch.int64)
    before = graph(*(value.clone() for value in given))
    assert in_one_call(graph) == 0
    for got, wanted in zip(graph(*given), before, strict=True):
        assert_equal_bits(got, wanted)


@pytest.mark.parametrize("number", ["computed", "made by a module"])
def test_a_size_that_is_computed(number: str) -> None:
    made = fx.Graph()
    mask, rows = made.placeholder("mask"), made.placeholder("rows")
    batch = made.call_function(operator.mul, (made.call_function(aten.sym_size.int, (mask, 0)), 1))
    if number == "computed":
        batch.meta["val"] = 2
    tokens = made.call_function(operator.getitem, (made.call_function(opswap.pack_tokens.default, (mask, False)), 0))
    made.output(made.call_function(opswap.unpack_tokens.default, (rows, tokens, batch, 3)))
    graph, given = fx.GraphModule(nn.Module(), made), (torch.ones(2, 3), torch.randn(6, 5))
    before = graph(*given)
    assert in_one_call(graph) == (2 if number == "computed" else 0)
    assert_equal_bits(graph(*given), before)


def test_a_size_of_something_in_the_run_ends_it() -> None:
    made = fx.Graph()
    mask, x = made.placeholder("mask"), made.placeholder("x")
    packed = made.call_function(opswap.pack_tokens.default, (mask, False))
    tokens = made.call_function(operator.getitem, (packed, 0))
    taken = made.call_function(opswap.take_tokens.default, ([x], tokens))
    first = made.call_function(operator.getitem, (taken, 0))
    count = made.call_function(aten.sym_size.int, (first, 0))
    rows = made.call_function(aten.reshape.default, (first, [-1, 1]))
    made.output(made.call_function(opswap.unpack_tokens.default, (rows, tokens, 1, count)))
    graph = fx.GraphModule(nn.Module(), made)
    given = torch.ones(2, 3, dtype=torch.int64), torch.randint(0, 9, (2, 3))
    before = graph(*given)
    assert in_one_call(graph) == 2
    assert_equal_bits(graph(*given), before)
