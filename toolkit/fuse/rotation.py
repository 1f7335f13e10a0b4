"""The rotation of rows as a part of rounding them."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from targets._linear import QuantizedLinear
from toolkit.fuse.matching import module_of, sites
from toolkit.rotated import Rotated

ROUNDING_ERROR = torch.ops.opswap.rounding_error.default


def fuse_rotation(gm: fx.GraphModule) -> int:
    """QuantizedLinear(Rotated(x)) → QuantizedLinear'(x), whose Activation has the rotation; rounding_error(Rotated(x))
    → rounding_error'(x) where such a linear read the same

    All calls of a linear, if each reads rotated rows, or none. → how many calls
    """
    fused, read = 0, set()
    for name, nodes in sites(gm, QuantizedLinear).items():
        turns = [module_of(gm, node.args[0]) for node in nodes]
        linear: Any = copy.copy(gm.get_submodule(name))  # over the same tensors
        if not all(isinstance(turn, Rotated) and linear.in_features % turn.block == 0 for turn in turns):
            continue
        linear.activation = replace(linear.activation, rotation=turns[0].block)  # type: ignore[union-attr]
        gm.set_submodule(name, linear)
        for node in nodes:
            read.add(node.args[0])
            node.args = (node.args[0].args[0],)  # type: ignore[union-attr]
        fused += len(nodes)
    for node in gm.graph.find_nodes(op="call_function", target=ROUNDING_ERROR):
        if node.args[0] in read:
            turned: Any = node.args[0]
            block = module_of(gm, turned).block  # type: ignore[union-attr]
            node.args = (turned.args[0], *node.args[1:4], block)
    return fused
