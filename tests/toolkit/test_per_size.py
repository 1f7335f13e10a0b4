"""What depends on sizes and parameters alone is found, and only that; the graph gives the same bits without it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from targets._place import move
from tests import tiny
from tests.checks import assert_equal_bits
from tests.toolkit.families import MODELS, build
from tests.toolkit.small_graphs import X, count, graph_of
from toolkit import Recipe, report_of, transform
from toolkit.fuse import kept, per_size
from toolkit.fuse.kept import PerSize
from toolkit.fuse.per_size import keep_per_size
from toolkit.inputs import KEY, Inputs, Past
from toolkit.pipeline import clean

aten = torch.ops.aten
SHAPES = [(1, 5), (3, 9), (2, 9), (1, 1), (2, 30), (4, 5), (1, 17), (1, 9)]
WITH = {"mpnet", "deberta-v2", "roformer", "llama", "llama in steps", "modernbert"}


def tables(length: int) -> Tensor:
    """→ float32 [length, length], of some steps"""
    places = torch.arange(length)
    return (places[:, None] - places[None]).abs().float().log1p().cos()


class Model(nn.Module):
    """x [B, S, 6] → function(x, weight [64, 6])"""

    weight: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Any], rows: int = 64) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("weight", torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight)


def kept_by(graph: fx.GraphModule) -> list[PerSize]:
    return [module for module in graph.modules() if isinstance(module, PerSize)]


def assert_same_graph(graph: fx.GraphModule, want: fx.GraphModule) -> None:
    """At several sizes, each of them twice: of what the first call writes to, the second would be given"""
    for batch, length in SHAPES:
        x = torch.randn(batch, length, 6, generator=torch.Generator().manual_seed(length))
        for _ in range(2):
            torch.testing.assert_close(graph(x.clone()), want(x.clone()), rtol=0, atol=0)


def passed(function: Callable[[Tensor, Tensor], Any], rows: int = 64) -> tuple[fx.GraphModule, int]:
    """→ the graph after the pass, which gives what it gave before, and the pass's count"""
    graph = graph_of(Model(function, rows))
    before = copy.deepcopy(graph)
    found = keep_per_size(graph)
    clean(graph)
    assert_same_graph(graph, before)
    assert len(kept_by(graph)) == found
    return graph, found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target, precision", [("customcpu", "int"), ("customcpu", "fp"), ("aie", "int")])
def test_the_same_bits_as_without(name: str, target: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 3)
    graph, plain = (transform(build(name), Recipe(precision, without=without), target)
                    for without in ((), ("per_size",)))  # fmt: skip
    assert report_of(graph).fused["per_size"] == len(kept_by(graph)) == (name in WITH)
    assert "per_size" not in report_of(plain).fused and not kept_by(plain)
    for batch, length in SHAPES:
        ids = torch.randint(3, tiny.VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(length))
        mask = torch.ones_like(ids)
        mask[0, length // 2 + 1 :] = 0
        with torch.no_grad():
            have, want = (one(input_ids=ids, attention_mask=mask) for one in (graph, plain))
        for key, value in want.items():
            assert_equal_bits(have[key], value)


def test_what_is_kept_of_mpnet() -> None:
    """The distances' bias of all heads, but not as often as there are sequences, and whole in memory"""
    graph = transform(build("mpnet"), Recipe("int"), "customcpu")
    ids = torch.ones(3, 9, dtype=torch.int64)
    graph(input_ids=ids)
    (one,) = kept_by(graph)
    (held,) = one.kept
    largest = max(held.results, key=Tensor.numel)
    assert largest.shape == (1, 4, 9, 9) and largest.is_contiguous()
    graph(input_ids=ids[:1])
    assert one.kept == (held,)
    assert not {aten.log.default, aten.embedding.default, aten.sub.Tensor} & {node.target for node in graph.graph.nodes}


@pytest.mark.parametrize("name", sorted(WITH))
def test_nothing_of_it_is_left(name: str) -> None:
    """What works in place on nothing but a new tensor's gradients, as DeBERTa's constants have it, is no reason to"""
    graph = transform(build(name), Recipe("int"), "customcpu")
    gone = {aten.log.default, aten.sign.default, aten.ceil.default, aten.cos.default, aten.sin.default}
    gone |= {aten.lift_fresh_copy.default, aten.detach_.default}
    assert not gone & {node.target for node in graph.graph.nodes}
    assert not [node for node in graph.graph.nodes if not node.users and node.op not in ("output", "placeholder")]


def test_no_name_of_a_state_changes() -> None:
    model = build.__wrapped__("mpnet")  # whose parameters both graphs have
    graph, plain = (transform(model, Recipe("int", without=without), "customcpu") for without in ((), ("per_size",)))
    ids = torch.arange(3, 12)[None]
    before = graph(input_ids=ids).start_logits
    assert graph.state_dict().keys() == plain.state_dict().keys()
    bias = dict(graph.named_parameters())["mpnet.encoder.relative_attention_bias.weight"]
    bias.data.copy_(torch.arange(bias.numel()).view_as(bias))
    assert not torch.equal(graph(input_ids=ids).start_logits, before)
    assert_equal_bits(graph(input_ids=ids).start_logits, plain(input_ids=ids).start_logits)


def test_of_a_batch_nothing_depends() -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        return tables(x.shape[1]).expand(x.shape[0], -1, -1).contiguous() @ x

    graph, found = passed(function)
    (call,) = [node for node in graph.graph.find_nodes(op="call_module")]
    assert found == 1 and [node.args[1] for node in call.args[0]] == [1]
    assert not any(node.target is aten.expand.default for node in kept_by(graph)[0].made.graph.nodes)
    assert count(graph, aten.contiguous.default) == 1


def test_what_depends_on_the_batch_too() -> None:
    _, found = passed(lambda x, weight: (tables(x.shape[0]).sum(0) + tables(x.shape[0])).sum() + x)
    assert found == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x, weight: x + torch.arange(x.shape[1])[:, None],
        lambda x, weight: x + torch.arange(x.shape[1])[:, None].float(),
        lambda x, weight: x + weight[: x.shape[1]],
        lambda x, weight: x + torch.zeros(x.shape[1], 1) + torch.ones(6),
    ],
    ids=["positions", "as floats", "rows of a table", "constants"],
)
def test_what_is_not_worth_it(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert passed(function)[1] == 0


def test_a_large_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        return x + weight[torch.arange(x.shape[1])].cos().sin().exp()

    assert passed(function)[1] == 1
    monkeypatch.setattr(per_size, "LARGEST", 64 * 6 * 4 - 1)
    assert passed(function)[1] == 0


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


@pytest.mark.parametrize(
    "operator, function",
    [
        (aten.rand.default, lambda length: torch.rand(length, 1)),
        (aten.dropout.default, lambda length: torch.nn.functional.dropout(torch.ones(length, 1), 0.5, True)),
        (aten.empty.memory_format, lambda length: torch.empty(length, 1)),
    ],
)
def test_what_is_not_the_same_each_time(operator: object, function: Callable[[int], Tensor]) -> None:
    graph = graph_of(Model(lambda x, weight: x + function(x.shape[1]).cos().sin().exp()))
    assert count(graph, operator) == 1 and keep_per_size(graph) == 0


def test_a_graph_with_a_cache() -> None:
    graph = graph_of(Model(lambda x, weight: tables(x.shape[1]) @ x))
    graph.meta[KEY] = Inputs(("x",), (), None, (Past("past", 1, 1, torch.float32),))
    assert keep_per_size(graph) == 0


def test_lists_and_arithmetic_of_sizes() -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        first, second = tables(2 * x.shape[1] + 2).chunk(2)
        return torch.stack([first, second]).sum() + (first * second)[: x.shape[1], : x.shape[1]] @ x

    graph, found = passed(function)
    assert found == 1 and not count(graph, aten.chunk.default)


def test_it_moves_with_its_graph() -> None:
    graph, _ = passed(lambda x, weight: (tables(x.shape[1]) + weight[0, 0]) @ x)
    move(graph, torch.device("meta"))
    assert graph(X.to("meta")).is_meta
    assert not kept_by(graph)[0].kept


def test_it_is_exported_as_its_operators() -> None:
    graph, _ = passed(lambda x, weight: (tables(x.shape[1]) + weight[0, 0]) @ x)
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    with torch.no_grad():
        program = torch.export.export(graph, (X,), dynamic_shapes=(sizes,))
    assert count(program.graph_module, aten.log1p.default) == 1
    x = torch.randn(3, 11, 6)
    assert_equal_bits(program.module()(x), graph(x))
