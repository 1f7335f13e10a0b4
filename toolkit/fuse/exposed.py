"""Who may write to a value, or hand it out of the graph: asked before the same memory is given to every call."""

import operator
from typing import Any

import torch
from torch import fx

from toolkit.fuse.matching import aten

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
# of those that PyTorch composes of others; of the rest a schema need not say that a result may be an argument: type_as
FRESH = {"__and__", "__or__", "layer_norm", "linear", "matmul", "max", "min", "rms_norm",
         "scaled_dot_product_attention", "softmax", "where"}  # fmt: skip
DETACH = aten.detach_.default  # in place, but of a tensor's gradients: its numbers stay


class Exposed:
    """Asks of each value of a graph once."""

    def __init__(self) -> None:
        self.known: dict[fx.Node, bool] = {}

    def __call__(self, node: fx.Node) -> bool:
        """Whether any node writes to the value of `node`, or to what may share its memory, or the graph returns it;
        modules do neither: what they give is new"""
        if node not in self.known:
            self.known[node] = any(self._by(user, node) for user in node.users)
        return self.known[node]

    def _by(self, user: fx.Node, node: fx.Node) -> bool:
        if user.op == "call_module":
            return False
        return not is_known(user) or writes(user, node) or (may_alias(user) and self(user))


def is_known(node: fx.Node) -> bool:
    """Whether `node` calls what can be asked what it does"""
    return node.target is operator.getitem or isinstance(node.target, torch._ops.OpOverload)


def writes(user: fx.Node, node: fx.Node) -> bool:
    """Whether `user` writes to the numbers of `node`"""
    if not isinstance(user.target, torch._ops.OpOverload) or user.target is DETACH:
        return False
    written = list[Any]()
    for index, argument in enumerate(user.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = user.args[index] if index < len(user.args) else user.kwargs.get(argument.name)
            written += given if isinstance(given, list | tuple) else [given]
    return node in written


def may_alias(node: fx.Node) -> bool:
    """Whether the result of an operator may share memory with what it is given"""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return True
    if any(result.alias_info is not None for result in target._schema.returns):
        return True
    known = torch.Tag.pointwise in target.tags or target.overloadpacket.__name__ in FRESH
    return target.has_kernel_for_dispatch_key(COMPOSITE) and not known
