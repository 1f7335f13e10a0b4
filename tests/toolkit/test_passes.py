"""Each pass on a small graph: before, after, and the number of rewrites."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toolkit.small_graphs import X, apply, count, graph_of
from toolkit import passes
from toolkit.pipeline import PASSES, clean, run

aten = torch.ops.aten


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_drop_dropout():
    gm, rewrites = apply(passes.drop_dropout, nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Dropout(0.5)))
    assert rewrites == 2 and count(gm, aten.dropout.default) == 0 and count(gm, aten.relu.default) == 1


def test_empty_parts_stay_where_the_rest_changes():
    def function(x):
        x = torch.atleast_2d(x * 2)  # which may be a view
        both = torch.cat([torch.tensor([]), x], -2)
        x.add_(1)
        return both * x

    gm, rewrites = apply(passes.drop_empty_parts, Function(function))
    assert rewrites == 0 and count(gm, torch.ops.aten.cat.default) == 1


def test_drop_dropout_in_place():
    gm, rewrites = apply(passes.drop_dropout, Function(lambda x: F.dropout(x + 1, 0.5, False, inplace=True) * 2))
    assert rewrites == 1 and count(gm, aten.dropout_.default) == 0


def test_drop_dropout_leaves_a_training_one():
    gm = graph_of(Function(lambda x: F.dropout(x, 0.5, training=True)))
    assert passes.drop_dropout(gm) == 0 and count(gm, aten.dropout.default) == 1


def test_drop_assertions():
    gm, rewrites = apply(passes.drop_assertions, Function(lambda x: x.to(torch.float64) + 1))
    assert rewrites == 1 and count(gm, aten._assert_tensor_metadata.default) == 0


def test_drop_conversions():
    gm = graph_of(Function(lambda x: x.to(torch.float32).to(torch.float64).to("cpu")))
    run(gm, [passes.drop_assertions])
    assert passes.drop_conversions(gm) == 2
    clean(gm)
    assert [n.args[1] for n in gm.graph.nodes if n.op == "call_function"] == [torch.float64]
    assert torch.equal(gm(X), X.double())


def test_drop_conversions_leaves_a_copy():
    gm = graph_of(Function(lambda x: x.to(torch.float32, copy=True)))
    assert passes.drop_conversions(gm) == 0


def test_drop_whole_slices():
    gm, rewrites = apply(passes.drop_whole_slices, Function(lambda x: x[:, :][:, 1:] + 0))
    left = gm.graph.find_nodes(op="call_function", target=aten.slice.Tensor)
    assert rewrites >= 1 and [node.args[1:3] for node in left] == [(1, 1)]


@pytest.mark.parametrize("dtype, rewrites", [(torch.bfloat16, 1), (torch.float64, 0), (torch.int32, 0)])
def test_outputs_to_float32(dtype, rewrites):
    gm = graph_of(Function(lambda x: (x * 8).to(dtype)))
    expected = gm(X)
    assert passes.outputs_to_float32(gm) == rewrites
    clean(gm)
    result = gm(X)
    assert result.dtype == (torch.float32 if rewrites else dtype)
    assert torch.equal(result.to(dtype), expected)


def test_the_runner_cleans_and_logs(caplog):
    model = nn.Sequential(nn.Dropout(), nn.Linear(6, 6))
    gm = graph_of(model)
    with caplog.at_level("DEBUG", logger="toolkit.rewrite"):
        run(gm, PASSES)
    assert "drop_dropout: 1" in caplog.messages and "raise_linear: 1" in caplog.messages
    assert [node.op for node in gm.graph.nodes] == ["placeholder", "call_module", "output"]
    assert torch.equal(gm(X), model(X))


def test_drop_empty_parts():
    """As transformers begins a cache: with a tensor that is changed in place"""
    gm, rewrites = apply(
        passes.drop_empty_parts, Function(lambda x: torch.cat([torch.tensor([]).detach_(), x], -2) + 1)
    )
    assert rewrites == 1 and [n.target for n in gm.graph.nodes if n.op == "call_function"] == [aten.add.Tensor]


def test_drop_empty_parts_of_a_dimension():
    """As Phi-3 has them, which turns a part of each head by position, and all of it where the part is the whole"""
    gm, rewrites = apply(passes.drop_empty_parts, Function(lambda x: torch.cat([x * 2, x[..., 6:]], -1) + 1))
    assert rewrites == 1 and count(gm, aten.cat.default) == count(gm, aten.slice.Tensor) == 0


def test_drop_empty_parts_where_a_view_reads_them():
    """cat lies in memory of its own, in order; what takes its place may not"""

    def function(x):
        heads = x.view(*x.shape[:2], 2, 3).transpose(1, 2)
        return torch.cat([heads * 2, heads[..., 3:]], -1).unsqueeze(0).view(x.shape[0], -1)

    gm, rewrites = apply(passes.drop_empty_parts, Function(function))
    assert rewrites == 1 and count(gm, aten.cat.default) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_drop_empty_parts_keeps_the_type(dtype):
    """Which cat takes from all of its parts, empty or not"""
    for nothing in (lambda x: torch.tensor([], dtype=dtype), lambda x: x[..., 6:].to(dtype)):
        gm, rewrites = apply(
            passes.drop_empty_parts, Function(lambda x, nothing=nothing: torch.cat([nothing(x), x], -1))
        )
        assert rewrites == (dtype == torch.int64)


def test_drop_same_views_and_aliases():
    function = Function(lambda x: (x + 1).view(*x.shape) * aten.alias.default(x))
    gm, rewrites = apply(passes.drop_same_views, function)
    assert rewrites == 2 and count(gm, aten.view.default) == count(gm, aten.alias.default) == 0


def test_drop_empty_parts_leaves_what_has_a_size():
    gm, rewrites = apply(passes.drop_empty_parts, Function(lambda x: torch.cat([x[:, :0], x, x], 1)))
    assert rewrites == 0 and count(gm, aten.cat.default) == 1


def test_drop_whole_slices_to_the_size_there_is():
    gm, rewrites = apply(
        passes.drop_whole_slices, Function(lambda x: (x + 1)[:, : x.shape[1]] + x[:, : x.shape[0]].sum())
    )
    assert rewrites == 1 and count(gm, aten.slice.Tensor) == 1
