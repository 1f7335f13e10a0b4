"""act(a) · b of a linear's halves, or of two linears, becomes one operator behind one linear, and nothing else does."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from targets._gate import Gate
from targets._linear import QuantizedLinear
from tests.activations import ACTIVATIONS
from tests.checks import assert_sqnr
from tests.toolkit.small_graphs import X, apply, graph_of
from toolkit.fuse.gate import fuse_gate
from toolkit.passes import drop_whole_slices
from toolkit.pipeline import clean
from toolkit.raising import raise_linear

N = 5
ACTS = {"gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh"), "silu": F.silu}
HALVES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "chunk": lambda y: y.chunk(2, -1),
    "chunk of dimension 2": lambda y: y.chunk(2, 2),
    "split": lambda y: y.split(N, -1),
    "split of dimension 2": lambda y: y.split(N, 2),
    "split with sizes": lambda y: y.split([N, N], -1),
    "split behind nothing": lambda y: y.split([0, N, N], -1)[1:],  # type: ignore[dict-item]
    "slices": lambda y: (y[..., :N], y[..., N:]),
    "slices of all dimensions": lambda y: (y[:, :, :N], y[:, :, N : 2 * N]),
    "slices from the end": lambda y: (y[..., :-N], y[..., -N:]),
}


class Written(nn.Module):
    """What `formula` makes of x and three linears: one of 2N outputs, two of N"""

    def __init__(self, formula: Callable[[Tensor, nn.Linear, nn.Linear, nn.Linear], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.both, self.gate, self.up = nn.Linear(6, 2 * N), nn.Linear(6, N), nn.Linear(6, N, bias=False)
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.both, self.gate, self.up)


def rewrite(gm: fx.GraphModule) -> int:
    raise_linear(gm)
    drop_whole_slices(gm)
    return fuse_gate(gm)


def gates_of(gm: fx.GraphModule) -> list[tuple[str, bool]]:
    return [(module.act, module.second) for module in gm.modules() if isinstance(module, Gate)]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("halves", HALVES)
def test_halves_of_one_linear(halves: str, act: str) -> None:
    def formula(x: Tensor, both: nn.Linear, *_: nn.Linear) -> Tensor:
        a, b = HALVES[halves](both(x))
        return ACTS[act](a) * b

    gm, count = apply(rewrite, Written(formula))
    assert count == 1 and gates_of(gm) == [(act, False)]
    assert [node.op for node in gm.graph.nodes] == ["placeholder", "call_module", "call_module", "output"]
    assert gm.graph.find_nodes(op="call_module")[-1].meta["val"].shape[-1] == N, "rows go by the shape"


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_either_half_and_order(second: bool, turned: bool) -> None:
    def formula(x: Tensor, both: nn.Linear, *_: nn.Linear) -> Tensor:
        parts = both(x).chunk(2, -1)
        act, other = F.silu(parts[second]), parts[not second]
        return other * act if turned else act * other

    gm, count = apply(rewrite, Written(formula))
    assert count == 1 and gates_of(gm) == [("silu", second)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("act", ACTS)
def test_two_linears(act: str, turned: bool) -> None:
    """One of them without a bias, and called twice."""

    def formula(x: Tensor, _: nn.Linear, gate: nn.Linear, up: nn.Linear) -> Tensor:
        made = [up(y) * ACTS[act](gate(y)) if turned else ACTS[act](gate(y)) * up(y) for y in (x, x + 1)]
        return made[0] + made[1]

    gm = graph_of(Written(formula))
    before = gm(X)
    assert rewrite(gm) == 2
    clean(gm)
    assert gates_of(gm) == [(act, False)]
    (linear,) = [module for module in gm.modules() if isinstance(module, nn.Linear)]
    assert linear.weight.shape == (2 * N, 6) and linear.bias[N:].eq(0).all()
    assert_sqnr(gm(X), before, 130)


def parted(y: Tensor, count: int, dim: int = -1) -> tuple[Tensor, ...]:
    return y.chunk(count, dim)


ALONE: dict[str, Callable[[Tensor, nn.Linear, nn.Linear, nn.Linear], Tensor]] = {
    "another activation": lambda x, both, *_: parted(both(x), 2)[0].relu() * parted(both(x), 2)[1],
    "no activation": lambda x, both, *_: parted(both(x), 2)[0] * parted(both(x), 2)[1],
    "a sum": lambda x, both, *_: F.silu(parted(both(x), 2)[0]) + parted(both(x), 2)[1],
    "a number": lambda x, both, *_: F.silu(both(x)) * 2,
    "one half twice": lambda x, both, *_: (lambda a, b: F.silu(a) * a)(*parted(both(x), 2)),
    "fifths": lambda x, both, *_: (lambda a, b, *_: F.silu(a) * b)(*parted(both(x), 5)),
    "halves of the batch": lambda x, both, *_: (lambda a, b: F.silu(a) * b)(*parted(both(x), 2, 0)),
    "slices that are no halves": lambda x, both, *_: (lambda y: F.silu(y[..., :4]) * y[..., 6:])(both(x)),
    "slices that overlap": lambda x, both, *_: (lambda y: F.silu(y[..., :N]) * y[..., 1 : N + 1])(both(x)),
    "a part in the middle": lambda x, both, *_: (lambda y: F.silu(y.split([2, N, N - 2], -1)[1]) * y[..., :N])(both(x)),
    "one after the other": lambda x, both, *_: (lambda y: F.silu(y[..., ::2]) * y[..., 1::2])(both(x)),
    "halves of two": lambda x, both, *_: F.silu(both(x)[..., :N]) * both(x + 1)[..., N:],
    "halves of no linear": lambda x, *_: (lambda a, b: F.silu(a) * b)(*parted(x, 2)),
    "an activation that is read elsewhere": lambda x, both, *_: (lambda a, b: a * b + a)(
        F.silu(both(x)[..., :N]), both(x)[..., N:]
    ),
    "two linears, one read elsewhere": lambda x, both, gate, up: (lambda y: F.silu(gate(x)) * y + y)(up(x)),
    "two linears, one called elsewhere": lambda x, both, gate, up: F.silu(gate(x)) * up(x) + up(x + 1),
    "two linears of two inputs": lambda x, both, gate, up: F.silu(gate(x)) * up(x + 1),
    "a linear and itself": lambda x, both, gate, up: F.silu(gate(x)) * gate(x),
    "a linear and its input": lambda x, both, gate, up: F.silu(nn.functional.pad(gate(x), (0, 1))) * x,
}


@pytest.mark.parametrize("case", ALONE)
def test_what_is_left_alone(case: str) -> None:
    assert apply(rewrite, Written(ALONE[case]))[1] == 0


def test_two_linears_of_other_widths_or_kinds_are_left_alone() -> None:
    """One output is repeated; int8 and float have no one weight."""
    torch.manual_seed(0)
    module = Written(lambda x, both, gate, up: F.silu(gate(x)) * up(x))
    module.up = nn.Linear(6, 1)
    assert apply(rewrite, module)[1] == 0
    for parts in (("gate",), ("up",), ("gate", "up")):
        gm = graph_of(Written(lambda x, both, gate, up: F.silu(gate(x)) * up(x)))
        raise_linear(gm)
        for part, how in zip(parts, ("symmetric", "asymmetric"), strict=False):
            linear = QuantizedLinear.from_linear(gm.get_submodule(part), ACTIVATIONS[how])  # type: ignore[arg-type]
            gm.set_submodule(part, linear)
        assert fuse_gate(gm) == 0
