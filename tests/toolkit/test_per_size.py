"""What depends on sizes and parameters alone is found, and only that; the graph gives the same bits without it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from targets._place import move
from tests import tiny
from tests.checks import assert_equal_bits
from tests.toolkit.families import MODELS, build
from tests.toolkit.per_size_graphs import SHAPES, Model, kept_by, passed, tables
from tests.toolkit.small_graphs import X, count, graph_of
from toolkit import Recipe, report_of, transform
from toolkit.fuse import kept, per_size
from toolkit.fuse.per_size import keep_per_size
from toolkit.inputs import KEY, Inputs, Past

aten = torch.ops.aten
WITH = {"mpnet", "deberta-v2", "roformer", "llama", "llama in steps", "modernbert"}


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
