"""Calls that follow each other become one, with the bits of each by itself; what must stay between them stays."""

import copy

import pytest
import torch
from torch import Tensor, fx

from benchmarks.profiling import profile
from targets._calls import Calls
from targets.base import UsageError
from tests.checks import assert_equal_bits
from tests.tiny import TIED, build
from tests.toolkit.fusing import inputs, mask_of, model_of
from toolkit import Recipe, report_of, transform
from toolkit.cache import OUTPUT, past_of, with_cache
from toolkit.inputs import KEY

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
    for got, wanted in zip(other(**given).values(), before, strict=True):
        assert_equal_bits(got, wanted)
    for held in calls_of(other)[0].constants[-2:]:  # the head's weight and bias
        held.zero_()
    assert not any(value.any() for value in other(**given).values())
    for got, wanted in zip(graph(**given).values(), before, strict=True):
        assert_equal_bits(got, wanted)


def test_the_weights_go_by_the_names_that_they_had() -> None:
    graph, alone = (transform(build("bert"), Recipe("int", without=without), "customcpu") for without in ((), WITHOUT))
    assert graph.state_dict().keys() == alone.state_dict().keys()


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


@pytest.mark.parametrize("precision", ["int", "bf16", "fp"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_it_can_be_profiled_exported_and_compiled(name: str, precision: str) -> None:
    model = build(name)
    graph = transform(model, Recipe(precision), "customcpu")
    given = inputs(name, mask_of("right"))
    wanted = list(graph(**given).values())
    (events,) = profile(graph, given, calls=1)
    assert len([event for event in events if event.operator.startswith("opswap.")]) > 1
    exported = torch.export.export(graph, (), given, strict=False).module()
    compiled = torch.compile(graph, backend="eager", fullgraph=precision == "int")
    for one in (exported, compiled):
        for got, value in zip(one(**given).values(), wanted, strict=True):
            assert_equal_bits(got, value)
