"""Graphs of a few operators, and what a pass makes of them."""

import torch
from torch import fx, nn

from toolkit.pipeline import clean

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
