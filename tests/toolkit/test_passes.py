"""Each pass on a small graph: before, after, and the number of rewrites."""

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from toolkit import passes, raising
from toolkit.pipeline import PASSES, clean, run
from toolkit.report import KEPT

aten = torch.ops.aten
X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


def graph_of(module: nn.Module) -> fx.GraphModule:
    shapes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
    with torch.no_grad():
        exported = torch.export.export(module.eval(), (X,), dynamic_shapes=shapes).module(check_guards=False)
    return fx.GraphModule(exported, exported.graph)


def count(gm: fx.GraphModule, target: object) -> int:
    return sum(node.target == target for node in gm.graph.nodes)


def apply(rewrite, module: nn.Module) -> tuple[fx.GraphModule, int]:
    gm = graph_of(module)
    before = gm(X)
    rewrites = rewrite(gm)
    clean(gm)
    assert torch.equal(gm(X), before)
    return gm, rewrites


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_drop_dropout():
    gm, rewrites = apply(passes.drop_dropout, nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Dropout(0.5)))
    assert rewrites == 2 and count(gm, aten.dropout.default) == 0 and count(gm, aten.relu.default) == 1


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


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_raise_linear(bias):
    model = nn.Sequential(nn.Linear(6, 3, bias=bias), nn.GELU(), nn.Linear(3, 4, bias=bias))
    gm, rewrites = apply(raising.raise_linear, model)
    assert rewrites == 2 and count(gm, raising.LINEAR) == 0
    assert [node.target for node in gm.graph.nodes if node.op == "call_module"] == ["0", "2"]
    assert all(type(gm.get_submodule(name)) is nn.Linear for name in ("0", "2"))
    assert gm.state_dict().keys() == model.state_dict().keys()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))


def test_raise_linear_makes_one_module_of_a_shared_layer():
    gm, rewrites = apply(raising.raise_linear, Shared())
    calls = [node.target for node in gm.graph.nodes if node.op == "call_module"]
    assert rewrites == 2 and calls == ["layer", "layer"]


class Twins(nn.Module):
    """two linears over one weight, with a bias each"""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x))


class Tied(nn.Module):
    """a linear whose weight is an embedding as well"""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(x + self.table(x.argmax(-1)))


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return F.linear(x, self.proj.weight * 2, self.proj.bias)


class Nameless(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.ones(3, 6))

    def forward(self, x):
        return F.linear(x, self.table)


class Itself(nn.Module):
    """a weight that is also what is multiplied"""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return self.proj(x) + self.proj(self.proj.weight)[:5]


@pytest.mark.parametrize(
    "model, why",
    [
        (Twins(), "differ in their bias"),
        (Tied(), "shared with aten.embedding"),
        (Computed(), "computed in the graph"),
        (Nameless(), "no module of its own"),
        (Itself(), "shared with aten.linear"),
    ],
    ids=["twins", "tied", "computed", "nameless", "itself"],
)
def test_raise_linear_leaves_and_says_why(model, why):
    gm, rewrites = apply(raising.raise_linear, model)
    assert rewrites == 0 and count(gm, raising.LINEAR) >= 1
    assert all(why in entry["why"] for entry in gm.meta[KEPT].values()) and gm.meta[KEPT]


def test_tied_weights_keep_their_names():
    gm, _ = apply(raising.raise_linear, Tied())
    assert list(gm.meta[KEPT]) == ["head"]


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


def test_drop_empty_parts_leaves_what_has_a_size():
    gm, rewrites = apply(passes.drop_empty_parts, Function(lambda x: torch.cat([x[:, :0], x, x], 1)))
    assert rewrites == 0 and count(gm, aten.cat.default) == 1


def test_untie_heads():
    gm, rewrites = apply(raising.untie_heads, Tied())
    assert rewrites == 1 and type(gm.head) is nn.Linear and KEPT not in gm.meta
    read = [node.target for node in gm.graph.nodes if node.op == "get_attr"]
    assert read == ["table.weight"] and gm.head.weight.data_ptr() == gm.table.weight.data_ptr()
    gm.head.weight = nn.Parameter(gm.head.weight * 2)
    assert torch.equal(gm.table.weight * 2, gm.head.weight)


class ByHand(nn.Module):
    """a table multiplied by without a module of its own, so that nothing says what the head would be called"""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)

    def forward(self, x):
        return F.linear(x + self.table(x.argmax(-1)), self.table.weight)


@pytest.mark.parametrize("model", [Twins(), Computed(), Nameless(), Itself(), ByHand()])
def test_untie_heads_leaves_what_is_no_head(model):
    gm, rewrites = apply(raising.untie_heads, model)
    assert rewrites == 0 and not [node for node in gm.graph.nodes if node.op == "call_module"]
