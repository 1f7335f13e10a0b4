"""Models that change in place what they read before and after: the transformed graph says what the model does."""

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from tests.checks import assert_sqnr
from toolkit import Recipe, capture, report_of, transform

IDS = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
Change = Callable[[Tensor], object]


class Attends(nn.Module):
    """q, k and v read x, which `change` writes to after the q of it; the norm and a second attention read it again."""

    def __init__(self, change: Change, of_mask: Change = lambda mask: None, of_ids: Change = lambda ids: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.change, self.of_mask, self.of_ids = change, of_mask, of_ids
        self.words = nn.Embedding(50, 32)
        self.q, self.k, self.v, self.o, self.up = (nn.Linear(32, 32) for _ in range(5))
        self.norm = nn.LayerNorm(32)

    def heads(self, x: Tensor, like: Tensor) -> Tensor:
        return x.view(*like.shape, 4, 8).transpose(1, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        x = self.words(input_ids) * 2
        self.of_ids(input_ids)
        for _ in range(2):
            shown = attention_mask[:, None, None].bool() & True
            self.of_mask(shown)
            q = self.heads(self.q(x), input_ids)
            self.change(x)
            k, v = self.heads(self.k(x), input_ids), self.heads(self.v(x), input_ids)
            y = nn.functional.scaled_dot_product_attention(q, k, v, shown)
            sums = self.o(y.transpose(1, 2).reshape(x.shape)) + x
            normed = self.norm(sums)
            self.change(sums)
            x = self.up(nn.functional.gelu(self.up(normed))) + sums
        return (x,)


CHANGES: dict[str, tuple[Change, ...]] = {
    "all of x": (lambda x: x.add_(1),),
    "the first token": (lambda x: x[:, 0].mul_(-3),),
    "by a mask": (lambda x: x.masked_fill_(x > 1, -2.0),),
    "the mask": (lambda x: None, lambda shown: shown[..., 1:3].fill_(False)),
    "the mask, whole": (lambda x: None, lambda shown: shown.logical_and_(torch.arange(shown.shape[-1]) != 1)),
    "what is given": (lambda x: x.add_(1), lambda shown: None, lambda ids: ids.add_(1)),
}


@pytest.mark.parametrize("target", ["cpu", "customcpu"])
@pytest.mark.parametrize("precision, db", [("fp", 100.0), ("int", 25.0)])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_it_is_what_the_model_does(changes: tuple[Change, ...], precision: str, db: float, target: str) -> None:
    model = Attends(*changes).eval()
    graph = transform(model, Recipe(precision), target)
    with torch.no_grad():
        wanted, given = IDS.clone(), IDS.clone()
        expected, found = model(wanted, MASK)[0], graph(input_ids=given, attention_mask=MASK)[0]
    assert_sqnr(found, expected, db)
    assert torch.equal(given, wanted)


class Product(nn.Module):
    """x @ W.T, and a bias that is added when x is another already"""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.w = nn.Embedding(50, 32), nn.Linear(32, 32)

    def forward(self, input_ids: Tensor) -> tuple[Tensor]:
        x = torch.atleast_2d(self.words(input_ids))  # which may be a view
        y = x @ self.w.weight.T
        x.add_(1)
        return (y + self.w.bias + x,)


def test_a_product_reads_what_it_read() -> None:
    model = Product().eval()
    with torch.no_grad():
        assert_sqnr(transform(model)(input_ids=IDS)[0], model(IDS)[0], 100.0)


def test_what_is_not_fused_for_it_is_in_the_report() -> None:
    found = report_of(transform(Attends(*CHANGES["what is given"]).eval(), Recipe("int"), "customcpu"))
    assert [one["what"] for one in found.missed] == ["fusions"]
    assert not any(times for name, times in found.fused.items() if name != "calls")  # which keep the order
    assert not report_of(transform(Attends(*CHANGES["all of x"]).eval(), Recipe("int"), "customcpu")).missed


class Adds(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.add_(y)


HANDED: dict[str, tuple[str, object]] = {  # ways to say add_ in a graph
    "an operator": ("call_function", torch.ops.aten.add_.Tensor),
    "operators of one name": ("call_function", torch.ops.aten.add_),
    "Python's": ("call_function", operator.iadd),
    "a function": ("call_function", lambda x, y: x.add_(y)),
    "a method": ("call_method", "add_"),
    "a module": ("call_module", "adds"),
}


@pytest.mark.parametrize("target", ["cpu", "customcpu"])
@pytest.mark.parametrize("op, name", HANDED.values(), ids=HANDED)
def test_a_graph_that_is_handed_in(op: str, name: object, target: str) -> None:
    """Whatever calls it, what writes is not passed over"""
    graph = capture(Attends(lambda x: torch.atleast_2d(x).add_(1)).eval())
    graph.add_submodule("adds", Adds())
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.add_.Tensor):
        node.op, node.target = op, name
    made = fx.GraphModule(graph, graph.graph)
    with torch.no_grad():
        expected = made(input_ids=IDS, attention_mask=MASK)[0]
        assert_sqnr(transform(made, target=target)(input_ids=IDS, attention_mask=MASK)[0], expected, 100.0)
