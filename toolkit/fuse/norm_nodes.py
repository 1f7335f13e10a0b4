"""What a graph's norms are: PyTorch's LayerNorm and RMSNorm, with what they hold."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from toolkit.fuse.matching import aten, parameter

NORMS = (aten.layer_norm.default, aten.rms_norm.default)


class Norm(NamedTuple):
    """gamma, beta [N]; rms: RMSNorm, which does not subtract the mean"""

    gamma: Tensor
    beta: Tensor
    eps: float
    rms: bool


def norms(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for target in NORMS for node in gm.graph.find_nodes(op="call_function", target=target)]


def one_norm(gm: fx.GraphModule, nodes: list[Any]) -> Norm | None:
    """nodes: norms, or None → what all of them share, norms of the last dimension, None if they differ or one is
    something else"""
    if None in nodes or any(len(node.args[1]) != 1 for node in nodes):
        return None
    if len({(node.target, *node.args[1], *_names(node), eps_of(node)) for node in nodes}) > 1:
        return None
    first = nodes[0]
    sources = _sources(first)
    gamma, beta = (parameter(gm, source) for source in sources)
    if (gamma is None, beta is None) != tuple(source is None for source in sources):
        return None
    gamma = torch.ones(*first.args[1]) if gamma is None else gamma
    beta = torch.zeros_like(gamma) if beta is None else beta
    return Norm(gamma, beta, eps_of(first), first.target is aten.rms_norm.default)


def _sources(norm: fx.Node) -> tuple[Any, Any]:
    """→ the nodes of weight and bias, None for none"""
    weight, bias = (*norm.args[2:4], None, None)[:2]
    return weight, None if norm.target is aten.rms_norm.default else bias


def _names(norm: fx.Node) -> list[str | None]:
    return [getattr(source, "target", None) for source in _sources(norm)]


def eps_of(norm: fx.Node) -> float:
    """→ what is added under the root, as PyTorch has it where it is not given"""
    if norm.target is aten.rms_norm.default:
        given: Any = (*norm.args[3:4], None)[0]
        return torch.finfo(torch.float32).eps if given is None else given
    return (*norm.args[4:5], 1e-5)[0]  # type: ignore[return-value]
