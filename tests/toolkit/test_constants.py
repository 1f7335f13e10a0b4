"""What linears make of parameters alone is a constant, of the same bits; what anyone writes to is none."""

import pytest
import torch
from torch import Tensor, fx, nn

from tests.toolkit.small_graphs import apply
from toolkit.fuse.constants import fold_constants
from toolkit.passes import drop_dropout
from toolkit.quantize import quantize
from toolkit.raising import raise_linear
from toolkit.recipe import Recipe

aten = torch.ops.aten


class Distances(nn.Module):
    """y = linear(x) · far(table)ᵀ. written: to the table's scale, at each call; returned: far(table) too; alone: no
    linear is in far"""

    def __init__(self, written: bool = False, returned: bool = False, alone: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm, self.dropout = nn.Linear(6, 6), nn.LayerNorm(6), nn.Dropout()
        self.table = nn.Parameter(torch.randn(4, 6))
        self.register_buffer("scale", torch.ones(1))
        self.written, self.returned, self.alone = written, returned, alone
        self.requires_grad_(False)  # with gradients PyTorch multiplies in another order

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.written:
            self.scale.mul_(1.0)
        table = self.norm(self.table * self.scale)
        far = (table if self.alone else self.linear(self.dropout(table))).view(1, 4, 6).tanh()
        y = self.linear(x) @ far.transpose(1, 2)
        return torch.cat([y, far[:, :1, :4].expand(x.shape[0], -1, -1)], 1) if self.returned else y


def folded(gm: fx.GraphModule) -> int:
    drop_dropout(gm)
    raise_linear(gm)
    return fold_constants(gm)


def in_integers(gm: fx.GraphModule) -> int:
    drop_dropout(gm)
    raise_linear(gm)
    quantize(gm, Recipe("int", keep=()))
    gm.recompile()
    return 0


def constants(gm: fx.GraphModule) -> list[Tensor]:
    return [value for name, value in gm.named_buffers() if name.startswith("constant")]


def test_a_linear_of_a_parameter_is_computed_once() -> None:
    gm, count = apply(folded, Distances())
    assert count == 1 and [value.shape for value in constants(gm)] == [(1, 6, 4)]
    assert sum(node.op == "call_module" for node in gm.graph.nodes) == 1
    assert not gm.graph.find_nodes(op="call_function", target=aten.layer_norm.default)
    assert not gm.state_dict().keys() & {"constant"}
    assert [node.meta["val"] is gm.constant for node in gm.graph.find_nodes(op="get_attr", target="constant")] == [True]


def test_of_integers_it_has_the_same_bits() -> None:
    gm, _ = apply(lambda gm: 0, Distances())
    in_integers(gm)
    x = torch.randn(2, 3, 6)
    before = gm(x)
    assert fold_constants(gm) == 1
    gm.recompile()
    assert torch.equal(gm(x), before)


@pytest.mark.parametrize("model", [Distances(written=True), Distances(alone=True)], ids=["written to", "no linear"])
def test_what_stays(model: nn.Module) -> None:
    gm, count = apply(folded, model)
    assert count == 0 and not constants(gm)


def test_what_is_read_twice_is_one_constant() -> None:
    gm, count = apply(folded, Distances(returned=True))
    assert count == len(constants(gm)) == 2  # turned, and a part of it


def test_a_buffer_of_the_models_own_is_not_overwritten() -> None:
    def beside_another(gm: fx.GraphModule) -> int:
        gm.register_buffer("constant", torch.full((1,), 7.0))
        gm.register_buffer("constant_0", torch.full((1,), 7.0))
        return folded(gm)

    gm, count = apply(beside_another, Distances())
    assert count == 1 and gm.constant.tolist() == gm.constant_0.tolist() == [7.0] and len(constants(gm)) == 3
