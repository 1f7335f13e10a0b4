"""Graphs of a few operators, and what a pass makes of them."""

import torch
from torch import fx, nn

from tests.checks import assert_sqnr
from toolkit.pipeline import clean, fuse, run
from toolkit.writes import out_of_place

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


def assert_fused_out_of_place_alone(module: nn.Module, name: str, times: int) -> None:
    """Where `module` writes between the steps of the fusion `name`, its graph stays as it is; once that is out of place
    there are `times` to fuse."""
    gm = graph_of(module)
    before = gm(X)
    assert fuse(gm, [name]) == {name: 0}
    assert torch.equal(gm(X), before)
    run(gm, [out_of_place])
    assert fuse(gm, [name]) == {name: times}
    assert_sqnr(gm(X), before, 120)
