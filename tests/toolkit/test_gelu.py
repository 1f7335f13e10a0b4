"""GELU written out, as transformers' activations have it, becomes one operator with the same values."""

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from tests.checks import assert_sqnr
from toolkit.fuse.gelu_steps import raise_gelu
from toolkit.pipeline import clean

aten = torch.ops.aten
X = torch.linspace(-12, 12, 4001)[None]


class Activation(nn.Module):
    """gelu(x) + x: the activation's input has another reader."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.act = ACT2FN[name]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x) + x


def captured(module: nn.Module) -> torch.fx.GraphModule:
    exported = torch.export.export(module.eval(), (X,)).module(check_guards=False)
    return torch.fx.GraphModule(exported, exported.graph)


BY_TANH = ("gelu_new", "gelu_accurate", "gelu_python_tanh", "gelu_fast")


@pytest.mark.parametrize("name, approximate", [*((name, "tanh") for name in BY_TANH), ("gelu_python", "none")])
def test_one_operator(name: str, approximate: str) -> None:
    gm = captured(Activation(name))
    before = gm(X)
    assert raise_gelu(gm) == 1
    clean(gm)
    (node,) = gm.graph.find_nodes(op="call_function", target=aten.gelu.default)
    assert node.kwargs == {"approximate": approximate}
    assert node.meta["val"].shape == X.shape, "fusions go by the shape"
    calls = [n.target for n in gm.graph.nodes if n.op == "call_function"]
    assert calls == [aten.gelu.default, aten.add.Tensor]
    assert_sqnr(gm(X), before, 120)


@pytest.mark.parametrize("name", ["quick_gelu", "silu", "gelu", "gelu_pytorch_tanh"])
def test_others_stay(name: str) -> None:
    gm = captured(Activation(name))
    assert raise_gelu(gm) == 0


def test_a_step_that_is_read_elsewhere_stays() -> None:
    class Shared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inner = torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0)))
            return 0.5 * x * (1.0 + inner) + inner

    gm = captured(Shared())
    assert raise_gelu(gm) == 0
