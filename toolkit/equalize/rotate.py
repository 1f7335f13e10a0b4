"""What linears read is rotated before it is rounded, and their weights are rotated to match.

A channel that is larger than the others takes bits from them, as one range is for all of a row. The rotation by the
matrix of Walsh and Hadamard spreads it over a block of channels (QuaRot, Ashkboos et al. 2024): what the linear gives
is the same, and the rounding errors of rows and weights are smaller.
"""

from collections.abc import Collection

from torch import fx, nn

from targets._linear import float_linear
from targets._pages import let_go
from toolkit.fuse.matching import add_module, sites
from toolkit.quantize import WEIGHT
from toolkit.recipe import Recipe
from toolkit.rotated import Rotated, block_of, counter_rotated


def rotate(graph: fx.GraphModule, names: Collection[str], recipe: Recipe) -> int:
    """W x + b → W' Rotated(x) + b, for the linears `names` that round activations; those that read one x share one

    The graph's own weights are replaced, those of the model that it was captured from are not changed. → how many
    linears; those whose K no block divides are left alone
    """
    made: dict[fx.Node, fx.Node] = {}
    blocks: dict[int, str] = {}
    done = 0
    for name, nodes in sites(graph, nn.Linear).items():
        linear = graph.get_submodule(name)
        block = block_of(linear.in_features)  # type: ignore[arg-type]
        if name not in names or recipe.layer(name).scheme == WEIGHT or not block:
            continue
        if block not in blocks:
            blocks[block] = add_module(graph, f"rotated_{block}", Rotated(block))
        for node in nodes:
            node.args = (_of(graph, node.args[0], blocks[block], made),)  # type: ignore[arg-type]
        graph.set_submodule(name, float_linear(counter_rotated(linear.weight.detach(), block), linear.bias))  # type: ignore
        let_go(linear.weight)  # type: ignore[arg-type]
        done += 1
    return done


def _of(graph: fx.GraphModule, x: fx.Node, module: str, made: dict[fx.Node, fx.Node]) -> fx.Node:
    """→ the node that is x, rotated; of one width, so of one block"""
    if x not in made:
        with graph.graph.inserting_after(x):
            made[x] = graph.graph.call_module(module, (x,))
        made[x].meta = dict(x.meta)
    return made[x]
