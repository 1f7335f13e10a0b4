"""Copies of graphs and modules over the same memory, each free to move to another device or dtype by itself."""

import copy

from torch import Tensor, fx, nn


def same_nodes(graph: fx.GraphModule) -> fx.Graph:
    """→ its nodes once more, called as it is, to be rewritten"""
    fresh, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.graph.nodes:
        made[node] = fresh.node_copy(node, made.__getitem__)
    fresh.set_codegen(graph.graph._codegen)
    return fresh


def aliases(module: nn.Module) -> dict[int, Tensor]:
    """→ a memo for copy.deepcopy: buffers as they are, of each parameter another one over the same memory, as
    Module.to changes a parameter itself, and whoever holds it would move along"""
    fresh = {id(held): nn.Parameter(held.detach(), requires_grad=False) for held in module.parameters()}
    return {**fresh, **{id(held): held for held in module.buffers()}}


def unshare(graph: fx.GraphModule) -> None:
    """Puts copies of the modules, and of the graph's own parameters, in the place of those that it holds, in place."""
    memo = aliases(graph)
    for name, child in list(graph.named_children()):
        setattr(graph, name, copy.deepcopy(child, memo))
    for name, held in list(graph.named_parameters(recurse=False)):
        setattr(graph, name, memo[id(held)])
