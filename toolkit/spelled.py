"""A float graph whose linears read rotated rows, in operators: what another quantizer is given where it should round
those."""

from typing import Any

from torch import fx, nn

from toolkit.equalize.rotate import rotate
from toolkit.fuse.matching import add_module, calls
from toolkit.quantize import chosen
from toolkit.raising import LINEAR, raise_linear
from toolkit.recipe import Recipe
from toolkit.rotated import ROTATED, Rotated


def rotate_spelled(gm: fx.GraphModule, recipe: Recipe) -> int:
    """aten.linear(x, W, b) → aten.linear(rotated(x, block), W', b), as `rotate` does it, for those that the recipe has
    in 8 bits, in place. → how many"""
    raise_linear(gm)
    done = rotate(gm, chosen(gm, recipe), recipe)
    for node in calls(gm, nn.Linear):
        linear: Any = gm.get_submodule(str(node.target))
        with gm.graph.inserting_before(node):
            held = [gm.graph.get_attr(f"{node.target}.{leaf}") for leaf in ("weight", "bias")[: 1 + _has_bias(linear)]]
        for read, value in zip(held, (linear.weight, linear.bias), strict=False):
            read.meta["val"] = value
        _replace(gm, node, LINEAR, (node.args[0], *held))
    for node in calls(gm, Rotated):
        turned: Any = gm.get_submodule(str(node.target))
        # not where x was made: a quantizer would take it for a part of the linear that made x
        node.meta = {"val": node.meta["val"]}
        _replace(gm, node, ROTATED, (node.args[0], turned.block))
    gm.graph.lint()
    gm.recompile()
    return done


def raise_rotated(gm: fx.GraphModule) -> int:
    """rotated(x, block) → Rotated(x). → how many"""
    nodes = gm.graph.find_nodes(op="call_function", target=ROTATED)
    for node in nodes:
        x, block = node.args
        name = add_module(gm, f"rotated_{block}", Rotated(block))  # type: ignore[arg-type]
        with gm.graph.inserting_before(node):
            call = gm.graph.call_module(name, (x,))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        gm.graph.erase_node(node)
    return len(nodes)


def _has_bias(linear: Any) -> bool:
    return linear.bias is not None


def _replace(gm: fx.GraphModule, node: fx.Node, target: Any, args: tuple[Any, ...]) -> None:
    with gm.graph.inserting_before(node):
        new = gm.graph.call_function(target, args)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    gm.graph.erase_node(node)
