"""What torch.export leaves in a graph beside operators: what it does to memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator

from targets._memory import sharing, sources, written_by

X = torch.rand(4, 4)


class Silent(nn.Module):
    """Computes something without gradients, as a graph within the graph; `change` works on it, or on x."""

    def __init__(self, change: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            inner = x * 2
            self.change(inner, x)
        return inner + x


@pytest.mark.parametrize(
    "change, writes",
    [(lambda inner, x: None, False), (lambda inner, x: inner.add_(1), False), (lambda inner, x: x.add_(1), True)],
    ids=["nothing", "what is its own", "what it is given"],
)
def test_graphs_within_a_graph(change: Callable[[Tensor, Tensor], object], writes: bool) -> None:
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(Silent(change), (X,), dynamic_shapes=shapes, strict=False)
    found = program.module()
    assert isinstance(found, fx.GraphModule)
    (inner,) = (node for node in found.graph.nodes if isinstance(node.target, HigherOrderOperator))
    assert bool(written_by(inner)) is writes
    body, x = inner.all_input_nodes
    assert body.op == "get_attr" and sharing(body) >= {body} and sources(inner) == [body, x]
    (guards,) = found.graph.find_nodes(op="call_module")
    assert not written_by(guards) and not sources(guards)
