"""A graph with a cache whose logits are wanted for the last token alone: the head computes no others."""

from typing import Any

import torch
from torch import fx, nn

from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from toolkit.cache import past_of
from toolkit.passes import LAST

aten = torch.ops.aten
# between the head and the output: what scales logits, caps them, or gives them another dtype
AFTER = (aten.mul.Tensor, aten.div.Tensor, aten.tanh.default, aten.to.dtype)


def keep_last_token(gm: fx.GraphModule) -> int:
    """linear(x) → linear(x[:, -1:]), where the logits [B, S, V] of a graph with a cache are that linear's: they become
    [B, 1, V]

    Where they are anything else, they themselves are cut. A graph without a cache stays as it is. → 1 if it was cut
    """
    if not past_of(gm):
        return 0
    outputs: Any = gm.graph.output_node().args[0]
    logits = outputs[0]
    head = logits
    while head.target in AFTER and isinstance(head.args[0], fx.Node) and len(head.users) == 1:
        head = head.args[0]
    if _is_linear(gm, head) and len(head.users) == 1:
        _cut(gm, head.args[0], head)
        _shorten(head, logits)
    else:
        _cut(gm, logits, gm.graph.output_node())
    return 1


def _is_linear(gm: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(gm.get_submodule(str(node.target)), nn.Linear | QuantizedLinear | WeightLinear)
    return node.target is aten.linear.default


def _cut(gm: fx.GraphModule, x: Any, user: fx.Node) -> None:
    """`user` reads the last token of x [B, S, C]."""
    with gm.graph.inserting_before(user):
        last = gm.graph.call_function(aten.slice.Tensor, (x, 1, -1, LAST))
    if "val" in x.meta:
        last.meta["val"] = x.meta["val"][:, -1:]
    user.args = fx.node.map_arg(user.args, lambda given: last if given is x else given)


def _shorten(first: fx.Node, last: fx.Node) -> None:
    """What was noted at capture of the nodes from `last` up to `first` has one token."""
    node: Any = last
    while True:
        if "val" in node.meta:
            node.meta["val"] = node.meta["val"][:, -1:]
        if node is first:
            return
        node = node.args[0]
