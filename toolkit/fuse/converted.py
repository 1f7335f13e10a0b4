"""Numbers of 16 bits that a model makes float32 for a few steps, and rounds again."""

from typing import Any

import torch
from torch import fx

from toolkit.fuse.matching import aten, only_user


def same(one: Any, other: fx.Node) -> bool:
    """Whether `one` is `other`, or converted as that is from what that is"""
    return one is other or (_converts(one) and _converts(other) and one.args == other.args)


def unconverted(first: Any, end: fx.Node) -> tuple[Any, fx.Node]:
    """first, made float32 of x, and the end of what is computed of it, that is converted back → x, and what it is
    converted to; else the two as they are"""
    back = only_user(end)
    if not _converts(first) or not _converts(back) or first.args[1] != torch.float32:
        return first, end
    x = first.args[0]
    return (x, back) if back.args[1] == x.meta["val"].dtype else (first, end)  # type: ignore


def _converts(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is aten.to.dtype and len(node.args) == 2
