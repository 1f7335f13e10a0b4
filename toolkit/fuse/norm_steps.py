"""RMSNorm that a model writes out in small steps, as one operator: fewer trips to memory, and what fusions look for."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from toolkit.fuse.matching import aten, only_user, parameter, shape_of
from toolkit.passes import CONVERSIONS

MUL = aten.mul.Tensor
OF_PARAMETERS = (aten.add.Tensor, MUL, aten.to.dtype)  # what a weight may be computed by: Gemma's are stored less 1
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Steps(NamedTuple):
    """One RMSNorm: its result, what is normalized, the node of the weight and its value [H], or None for both, and what
    is added to the mean of the squares"""

    last: fx.Node
    x: fx.Node
    source: fx.Node | None
    weight: Tensor | None
    eps: float


def raise_norm(gm: fx.GraphModule) -> int:
    """weight · (x · rsqrt(mean(x², -1, keepdim) + eps)) → rms_norm(x, [H], weight, eps)

    The products in any order, x / sqrt(...) too, with a weight or without, which may be computed of parameters (Gemma's
    1 + weight): that is done once, here. All of one dtype, as PyTorch's operator wants it. The same function: float32
    differs in its last bits, bfloat16 is rounded once instead of after every step.
    """
    fused = 0
    for root in (aten.rsqrt.default, aten.sqrt.default):
        for node in gm.graph.find_nodes(op="call_function", target=root):
            steps = _steps(gm, node)
            if steps is None:
                continue
            with gm.graph.inserting_before(steps.last):
                args = (steps.x, [steps.x.meta["val"].shape[-1]], _held(gm, steps), steps.eps)
                call = gm.graph.call_function(aten.rms_norm.default, args)
            call.meta = dict(steps.last.meta)
            steps.last.replace_all_uses_with(call)
            fused += 1
    return fused


def _steps(gm: fx.GraphModule, root: fx.Node) -> Steps | None:
    """→ the RMSNorm around `root`, None if it is none"""
    square, eps = _square_of(root.args[0])
    x: Any = None if square is None else _unconverted(square.args[0])
    size = x.meta["val"].shape[-1] if _is_float(x) and shape_of(x) else None
    if square is None or not isinstance(size, int):
        return None
    dtype = x.meta["val"].dtype
    node, factors, found = root, list[Any](), None
    while (user := only_user(node)) is not None and _is_float(user):
        if user.meta["val"].dtype not in (dtype, torch.float32):  # fewer bits than x has
            break
        if user.target not in CONVERSIONS:
            factors += _factors(user, node, root)
        node = user
        weights = [factor for factor in factors if _unconverted(factor) is not x]
        vectors = [_vector(gm, weight, size) for weight in weights]
        if len(factors) - len(weights) > 1 or len(weights) > 1 or any(vector is None for vector in vectors):
            break
        dtypes = {dtype, node.meta["val"].dtype, *(vector.dtype for vector in vectors)}  # type: ignore
        if len(factors) > len(weights) and len(dtypes) == 1:
            found = Steps(node, x, (*weights, None)[0], (*vectors, None)[0], eps)
    return found


def _square_of(radicand: Any) -> tuple[fx.Node | None, float]:
    """radicand: mean(x², -1, keepdim) + eps, each read by nothing else → x², as a node, and eps; None for others"""
    if radicand.target is not aten.add.Tensor or radicand.kwargs or not isinstance(radicand.args[1], int | float):
        return None, 0.0
    mean, eps = radicand.args
    if mean.target is not aten.mean.dim or mean.kwargs or mean.args[1:] not in (([-1], True), ([_last(mean)], True)):
        return None, 0.0
    square = mean.args[0]
    powers = square.target is aten.pow.Tensor_Scalar and square.args[1] == 2 or square.target is aten.square.default
    itself = square.target is MUL and square.args[0] is square.args[1]
    alone = all(only_user(node) is not None for node in (radicand, mean, square))
    return (square if alone and (powers or itself) else None), float(eps)


def _last(mean: fx.Node) -> int:
    return len(shape_of(mean)) - 1


def _factors(user: fx.Node, node: fx.Node, root: fx.Node) -> list[Any]:
    """→ what `user` multiplies `node` with, or divides by it where that is a square root; [None] where it does anything
    else"""
    inverse = node is root and root.target is aten.sqrt.default
    if (
        user.kwargs
        or user.target is not (aten.div.Tensor if inverse else MUL)
        or (inverse and user.args[1] is not node)
    ):
        return [None]
    other: Any = user.args[1] if user.args[0] is node else user.args[0]
    if isinstance(other, fx.Node) and other.target is MUL and only_user(other) is user and node is root:
        return list(other.args)  # x · weight
    return [other]


def _unconverted(node: Any) -> Any:
    """to(x, float32) → x; anything else as it is"""
    if not isinstance(node, fx.Node) or node.target not in CONVERSIONS or not _is_float(node.args[0]):
        return node
    return node.args[0] if node.meta["val"].dtype == torch.float32 else node


def _is_float(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.dtype in FLOATS


def _vector(gm: fx.GraphModule, node: Any, size: int) -> Tensor | None:
    """→ the value [size] that `node` reads, or computes of parameters and numbers; None for anything else"""
    held = parameter(gm, node)
    if held is not None:
        return held.detach() if held.shape == (size,) else None
    if (
        not isinstance(node, fx.Node)
        or node.target not in OF_PARAMETERS
        or shape_of(node) != (str(size),)
        or node.kwargs
    ):
        return None
    parts = [_vector(gm, part, size) if isinstance(part, fx.Node) else part for part in node.args]
    return None if any(part is None for part in parts) else node.target(*parts)  # type: ignore[operator]


def _held(gm: fx.GraphModule, steps: Steps) -> fx.Node | None:
    """→ the node that reads the weight, a new buffer of the graph where it was computed"""
    if steps.source is None or steps.weight is None or parameter(gm, steps.source) is not None:
        return steps.source
    name = f"weight_of_{steps.last.name}"
    gm.register_buffer(name, steps.weight)
    node = gm.graph.get_attr(name)
    node.meta["val"] = steps.weight
    return node
