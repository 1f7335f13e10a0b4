"""Linears out of operators: each one that has a module, and one line about each that has none."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.checks import assert_sqnr
from tests.toolkit.small_graphs import X, apply, count, graph_of
from toolkit import raising
from toolkit.pipeline import clean
from toolkit.products import product_to_linear
from toolkit.report import KEPT


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


class AddedLater(nn.Module):
    """a bias that something else adds: a linear without one would leave none to read"""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return F.linear(x, self.proj.weight) * 2 + self.proj.bias


class AddedTwice(nn.Module):
    """a bias that something else adds too: it must stay when the linear gets another"""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return self.proj(x) * 2 + self.proj.bias


@pytest.mark.parametrize(
    "model, why",
    [
        (Twins(), "differ in their bias"),
        (Tied(), "shared with aten.embedding"),
        (Computed(), "computed in the graph"),
        (Nameless(), "no module of its own"),
        (Itself(), "shared with aten.linear"),
        (AddedLater(), "holds more than a linear: proj.bias"),
        (AddedTwice(), "bias is shared with aten.add"),
    ],
    ids=["twins", "tied", "computed", "nameless", "itself", "added later", "added twice"],
)
def test_raise_linear_leaves_and_says_why(model, why):
    gm, rewrites = apply(raising.raise_linear, model)
    assert rewrites == 0 and count(gm, raising.LINEAR) >= 1
    assert all(why in entry["why"] for entry in gm.meta[KEPT].values()) and gm.meta[KEPT]


def test_tied_weights_keep_their_names():
    gm, _ = apply(raising.raise_linear, Tied())
    assert list(gm.meta[KEPT]) == ["head"]


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


TURNED = {
    "T": lambda x, w, b: x @ w.T,
    "t": lambda x, w, b: x @ w.t(),
    "transpose": lambda x, w, b: torch.matmul(x, w.transpose(-1, -2)),
    "permute": lambda x, w, b: x @ w.permute(1, 0),
    "with a bias": lambda x, w, b: x @ w.T + b,
}


class Product(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.layer = function, nn.Linear(6, 3)

    def forward(self, x):
        return self.function(x, self.layer.weight, self.layer.bias)


@pytest.mark.parametrize("function", TURNED.values(), ids=TURNED)
def test_a_product_with_a_weight_is_a_linear(function):
    gm = graph_of(Product(function))
    before = gm(X)
    assert product_to_linear(gm) == 1
    clean(gm)
    assert raising.raise_linear(gm) == 1
    clean(gm)
    assert [node.target for node in gm.graph.nodes if node.op != "placeholder"] == ["layer", "output"]
    assert_sqnr(gm(X), before, 120)


@pytest.mark.parametrize(
    "function",
    [lambda x, w, b: x @ (w.T * 2), lambda x, w, b: x @ x.transpose(1, 2), lambda x, w, b: x[..., :3] @ w],
    ids=["computed", "of two inputs", "not turned"],
)
def test_other_products_stay(function):
    assert product_to_linear(graph_of(Product(function))) == 0
