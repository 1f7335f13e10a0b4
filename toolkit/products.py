"""Linears that a model writes as products with a weight."""

from typing import Any

from torch import fx

from targets._memory import unchanged
from toolkit.fuse.matching import aten, parameter

# the ways to exchange two dimensions, by what they are told
TURNS: dict[Any, tuple[tuple[Any, ...], ...]] = {
    aten.numpy_T.default: ((),),
    aten.t.default: ((),),
    aten.transpose.int: ((0, 1), (1, 0), (-1, -2), (-2, -1)),
    aten.permute.default: (([1, 0],),),
}


def product_to_linear(gm: fx.GraphModule) -> int:
    """matmul(x, W.T) → linear(x, W), matmul(x, W.T) + b → linear(x, W, b): Falcon's layers, for one

    With a bias x and W are read later than they were: without it where anything writes to them in between.
    """
    found = 0
    for product in gm.graph.find_nodes(op="call_function", target=aten.matmul.default):
        x, weight = product.args[0], _turned(gm, product.args[1])
        if weight is None:
            continue
        last, bias = product, None
        add = next(iter(product.users)) if len(product.users) == 1 else None
        if add is not None and add.target is aten.add.Tensor and not add.kwargs and add.args[0] is product:
            vector = parameter(gm, add.args[1])
            fits = vector is not None and vector.shape == product.meta["val"].shape[-1:]
            if fits and unchanged((x, weight), product, add):
                last, bias = add, add.args[1]
        with gm.graph.inserting_before(last):
            linear = gm.graph.call_function(aten.linear.default, (x, weight) if bias is None else (x, weight, bias))
        linear.meta = dict(last.meta)
        last.replace_all_uses_with(linear)
        found += 1
    return found


def _turned(gm: fx.GraphModule, node: Any) -> fx.Node | None:
    """W.T → W, a parameter of two dimensions; None for anything else"""
    if not isinstance(node, fx.Node) or node.target not in TURNS or node.args[1:] not in TURNS[node.target]:
        return None
    held = parameter(gm, node.args[0])
    return node.args[0] if held is not None and held.dim() == 2 else None  # type: ignore[return-value]
