"""What nodes do to memory: what is said of operators is what PyTorch does, and of all that is unknown the worst."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from targets._attention import CachedAttention
from targets._linear import Activation, QuantizedLinear
from targets._memory import FRESH, keeps_elements, sharing, sources, unchanged, written_by

aten = torch.ops.aten
X = torch.rand(4, 4)
HEADS = torch.rand(1, 2, 4, 4)
WHETHER = X > 0.5
# for each name of FRESH calls that return tensors, one of every kind of overload that is used
CALLS: dict[str, list[tuple[Any, tuple[Any, ...]]]] = {
    "__and__": [(aten.__and__.Tensor, (WHETHER, WHETHER)), (aten.__and__.Scalar, (WHETHER, True))],
    "__or__": [(aten.__or__.Tensor, (WHETHER, WHETHER)), (aten.__or__.Scalar, (WHETHER, False))],
    "__xor__": [(aten.__xor__.Tensor, (WHETHER, WHETHER)), (aten.__xor__.Scalar, (WHETHER, False))],
    "clip": [(aten.clip.default, (X, 0)), (aten.clip.Tensor, (X, X))],
    "conv1d": [(aten.conv1d.default, (X[None], X[..., None])), (aten.conv1d.default, (X[:1, :1], X[:1, :1, None]))],
    "isfinite": [(aten.isfinite.default, (X,)), (aten.isfinite.default, (X.long(),))],
    "layer_norm": [(aten.layer_norm.default, (X, [4]))],
    "linear": [(aten.linear.default, (X, X)), (aten.linear.default, (X[:1], X[:1], X[0, :1]))],
    "matmul": [(aten.matmul.default, (X, X)), (aten.matmul.default, (X[0], X[0])), (aten.matmul.default, (HEADS, X))],
    "max": [(aten.max.other, (X, X))],
    "min": [(aten.min.other, (X, X))],
    "relu6": [(aten.relu6.default, (X,))],
    "rms_norm": [(aten.rms_norm.default, (X, [4]))],
    "scaled_dot_product_attention": [(aten.scaled_dot_product_attention.default, (HEADS, HEADS, HEADS))],
    "selu": [(aten.selu.default, (X,))],
    "softmax": [(aten.softmax.int, (X, -1)), (aten.softmax.int, (X[:, :1], 0, torch.float32))],
    "square": [(aten.square.default, (X,))],
    "true_divide": [(aten.true_divide.Tensor, (X, X)), (aten.true_divide.Scalar, (X, 1))],
    "where": [(aten.where.ScalarOther, (WHETHER, X, 0)), (aten.where.ScalarSelf, (WHETHER, 0, X)),
              (aten.where.Scalar, (WHETHER, 0, 1)), (aten.where.default, (WHETHER,))],
}  # fmt: skip
SAME: dict[str, tuple[Any, tuple[Any, ...]]] = {  # that return what they are given, and whose schemas don't say it
    "type_as": (aten.type_as.default, (X, X)),
    "einsum": (aten.einsum.default, ("ab->ba", [X])),
    "atleast_1d": (aten.atleast_1d.default, (X,)),
    "dropout": (aten.dropout.default, (X, 0.1, False)),
    "conj_physical": (aten.conj_physical.default, (X,)),
    "_unsafe_view": (aten._unsafe_view.default, (X, [16])),
    "unsafe_split": (aten.unsafe_split.Tensor, (X, 2)),
    "unsafe_split_with_sizes": (aten.unsafe_split_with_sizes.default, (X, [1, 3])),
    "unsafe_chunk": (aten.unsafe_chunk.default, (X, 2)),
    "broadcast_tensors": (aten.broadcast_tensors.default, ([X, X],)),
}


def memory(values: Any) -> set[int]:
    tensors = [one for one in torch.utils._pytree.tree_leaves(values) if isinstance(one, Tensor)]
    return {one.untyped_storage().data_ptr() for one in tensors}


def call(target: Any, given: tuple[Any, ...], op: str = "call_function") -> fx.Node:
    """→ a node that calls `target` with a placeholder for each tensor; what the capture notes is noted"""
    graph = fx.Graph()
    places: dict[int, fx.Node] = {}

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in places:
            places[id(value)] = graph.placeholder(f"x{len(places)}")
            places[id(value)].meta["val"] = value
        return places[id(value)]

    node = graph.create_node(op, target, torch.utils._pytree.tree_map(place, given))
    if isinstance(target, OpOverload):
        node.meta["val"] = target(*given)
    return node


def test_all_that_is_said_to_be_fresh_is_called() -> None:
    assert CALLS.keys() == FRESH


@pytest.mark.parametrize("name", CALLS)
def test_what_is_said_to_be_fresh_is(name: str) -> None:
    for target, given in CALLS[name]:
        assert not memory(target(*given)) & memory(given)
        assert not sources(call(target, given))


@pytest.mark.parametrize("target, given", SAME.values(), ids=SAME)
def test_what_may_be_what_it_is_given(target: Any, given: tuple[Any, ...]) -> None:
    assert memory(target(*given)) & memory(given)
    node = call(target, given)
    assert sources(node) == node.all_input_nodes and not written_by(node)


@pytest.mark.parametrize(
    "target, given, places",
    [
        (aten.view.default, (X, [16]), [0]),
        (aten.expand_as.default, (X, torch.rand(2, 4, 4)), [0]),
        (aten.cat.default, ([X, X + 1],), []),
        (aten.add.Tensor, (X, X), []),
        (aten.sym_size.int, (X, 0), []),
    ],
)
def test_what_schemas_say(target: Any, given: tuple[Any, ...], places: list[int]) -> None:
    node = call(target, given)
    assert sources(node) == [node.all_input_nodes[place] for place in places]


IN_PLACE: dict[str, tuple[Any, tuple[Any, ...], list[int]]] = {
    "add_": (aten.add_.Tensor, (X.clone(), X), [0]),
    "nothing": (aten.add.Scalar, (X, 1), []),
    "a list": (aten._foreach_add_.Scalar, ([X.clone(), X + 2], 1), [0, 1]),
    "its shape": (aten.unsqueeze_.default, (X.clone(), 0), [0]),
    "its gradients": (aten.detach_.default, (X.clone(),), []),
}


@pytest.mark.parametrize("target, given, places", IN_PLACE.values(), ids=IN_PLACE)
def test_what_is_written(target: Any, given: tuple[Any, ...], places: list[int]) -> None:
    node = call(target, given)
    assert written_by(node) == [node.all_input_nodes[place] for place in places]


@pytest.mark.parametrize("target, keeps", [(aten.t_.default, True), (aten.detach_.default, True),
                                           (aten.add_.Tensor, False), (aten.t.default, False)])  # fmt: skip
def test_what_writes_no_element(target: OpOverload, keeps: bool) -> None:
    assert keeps_elements(call(target, (X.clone(), *[X] * (target is aten.add_.Tensor)))) is keeps


@pytest.mark.parametrize(
    "op, target, writes",
    [
        ("call_function", aten.add_, True),
        ("call_function", torch.add, True),
        ("call_function", operator.iadd, True),
        ("call_function", lambda x: x, True),
        ("call_function", operator.getitem, False),
        ("call_method", "add_", True),
        ("call_method", "view", False),
        ("call_module", "nowhere", True),
    ],
)
def test_what_is_unknown_may_be_anything(op: str, target: Any, writes: bool) -> None:
    node = call(target, (X, 0), op)
    assert sources(node) == node.all_input_nodes
    assert bool(written_by(node)) is writes


def test_what_is_written_by_name_and_what_is_a_number() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    assert written_by(graph.call_function(aten.add.out, (x, x), {"out": y})) == [y]
    size = graph.call_function(aten.sym_size.int, (x, 0))
    size.meta["val"] = 4
    assert not written_by(graph.call_function(operator.mul, (size, 2)))


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


@pytest.mark.parametrize(
    "make, is_new",
    [
        (lambda: nn.Linear(4, 4), True),
        (lambda: QuantizedLinear(torch.ones(4, 4, dtype=torch.int8), torch.ones(4), None, Activation()), True),
        (lambda: CachedAttention(1, 1.0), False),
        (nn.Identity, False),
        (lambda: nn.ReLU(inplace=True), False),
        (Writes, False),
    ],
    ids=["linear", "ours", "a cache", "identity", "in place", "of a user"],
)
def test_modules(make: Callable[[], nn.Module], is_new: bool) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_module("one", (x,))
    fx.GraphModule({"one": make()}, graph)
    assert sources(node) == written_by(node) == ([] if is_new else [x])


def test_parameters_over_the_same_memory() -> None:
    root, graph = {"whole": nn.Parameter(X), "other": nn.Parameter(X.clone()), "part": X[:2]}, fx.Graph()
    whole, part, other = (graph.get_attr(name) for name in ("whole", "part", "other"))
    row = graph.call_function(aten.select.int, (part, 0, 0))
    written = graph.call_function(aten.zero_.default, (row,))
    graph.output((whole, other))
    gm = fx.GraphModule(root, graph)
    names = {node.name: node for node in gm.graph.nodes}
    whole, part, other, row, written = (names[node.name] for node in (whole, part, other, row, written))
    assert sharing(whole) == {whole, part, row, written}
    assert not unchanged([whole], row, gm.graph.output_node())
    assert unchanged([other], row, gm.graph.output_node()) and unchanged([whole], row, written)
