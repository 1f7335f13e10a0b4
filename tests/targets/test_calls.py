"""Calls that follow each other become one, with the bits of each by itself; what must stay between them stays."""

import copy
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from targets._calls import Calls, in_one_call
from targets.base import UsageError
from tests.checks import assert_equal_bits
from tests.tiny import TIED, build
from tests.toolkit.fusing import inputs, mask_of, model_of
from toolkit import Recipe, report_of, transform
from toolkit.cache import OUTPUT, past_of, with_cache
from toolkit.inputs import KEY

opswap, aten = torch.ops.opswap, torch.ops.aten
WITHOUT = ("calls",)


def calls_of(graph: fx.GraphModule) -> list[Calls]:
    return [module for module in graph.modules() if isinstance(module, Calls)]


def operators_of(calls: Calls) -> list[str]:
    return calls.extra_repr().split(", ")


@pytest.mark.parametrize("scheme", ["dynamic", "weight"])
@pytest.mark.parametrize("precision", ["int", "bf16", "fp"])
@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "roberta", "albert", "shared layers", "gpt2", TIED, "classifier"]
)
def test_equals_the_graph_with_each_call_by_itself(name: str, precision: str, scheme: str) -> None:
    recipe = Recipe(precision, scheme=scheme if precision == "int" else "dynamic")
    graph = transform(model_of(name), recipe, "customcpu")
    alone = transform(model_of(name), Recipe(precision, scheme=recipe.scheme, without=WITHOUT), "customcpu")
    counted = sum(len(operators_of(calls)) for calls in calls_of(graph))
    assert report_of(graph).fused["calls"] == counted > 1
    assert not calls_of(alone) and "calls" not in report_of(alone).fused
    for padding in ("right", "one token of one", "none"):
        given = inputs(name, mask_of(padding))
        for got, wanted in zip(graph(**given).values(), alone(**given).values(), strict=True):
            assert_equal_bits(got, wanted)


def test_an_encoder_is_one_call() -> None:
    (calls,) = calls_of(transform(build("bert"), Recipe("int"), "customcpu"))
    names = ["pack_tokens", "take_tokens", "embed_norm", "linear_int8_rows", "layers_int8", "linear_float"]
    assert operators_of(calls) == [*names, "unpack_columns"]


def test_a_cache_comes_between_the_calls_of_two_layers() -> None:
    model = with_cache(build(TIED))
    graph, alone = (transform(model, Recipe("int", without=without), "customcpu") for without in ((), WITHOUT))
    assert [operators_of(calls)[-1] for calls in calls_of(graph)].count("feed_forward_int8") > 0
    ids = torch.randint(5, 40, (2, 9))
    found: list[list[Tensor]] = []
    for one in (graph, alone):
        out = one(input_ids=ids[:, :6], attention_mask=torch.ones(2, 6, dtype=torch.int64))
        past = dict(zip(past_of(one), out[OUTPUT], strict=True))
        found.append([out.logits, one(input_ids=ids[:, 6:], attention_mask=torch.ones(2, 9).long(), **past).logits])
    for got, wanted in zip(*found, strict=True):
        assert_equal_bits(got, wanted)


def test_copies_have_weights_of_their_own() -> None:
    graph = transform(build("bert"), Recipe("int"), "customcpu")
    given = inputs("bert", mask_of("right"))
    before = [value.clone() for value in graph(**given).values()]
    other = copy.deepcopy(graph)
    for held in calls_of(other)[0].constants:
        held.zero_()
    for got, wanted in zip(graph(**given).values(), before, strict=True):
        assert_equal_bits(got, wanted)


def test_weights_are_counted_once() -> None:
    graph, alone = (transform(build("bert"), Recipe("int", without=without), "customcpu") for without in ((), WITHOUT))
    sizes = [{buffer.data_ptr(): buffer.nbytes for buffer in one.buffers()} for one in (graph, alone)]
    assert sum(sizes[0].values()) == sum(sizes[1].values())
    assert sum(buffer.nbytes for buffer in graph.buffers()) == sum(sizes[0].values())


def test_what_the_model_refuses_is_still_refused() -> None:
    graph = transform(build("bert"), Recipe("int"), "customcpu")
    assert graph.meta[KEY]
    with pytest.raises(UsageError, match="without input_ids"):
        graph(attention_mask=torch.ones(1, 3).long())


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


def by_hand(between: str) -> fx.GraphModule:
    """x [T, K] → quantize, and columns of it; `between` reads x ("beside"), or what was quantized ("in the way")"""
    made = fx.Graph()
    x = made.placeholder("x")
    rows = made.call_function(opswap.quantize_per_token.default, (x, True))
    q, scale, zero = (made.call_function(operator.getitem, (rows, index)) for index in range(3))
    source = x if between == "beside" else scale
    double = made.call_module("twice", (source,))
    again: Any = made.call_function(opswap.quantize_per_token.default, (x, True))
    other = made.call_function(operator.getitem, (again, 0))
    made.output((q, zero, double, other))
    root = nn.Module()
    root.twice = Twice()
    return fx.GraphModule(root, made)


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
