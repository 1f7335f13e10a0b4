"""What a mask of the graph says without padding: a table of positions, made of sizes and parameters alone."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.fuse.mask import LOWEST, MASK, evaluate, needed, trials
from toolkit.fuse.matching import aten
from toolkit.inputs import KEY, Inputs

log = logging.getLogger(__name__)

SIZE = aten.sym_size.int


def table_of(gm: fx.GraphModule, mask: fx.Node) -> fx.Node | None:
    """mask: of attention, boolean or additive, [B or 1, heads or 1, S or 1, S], of fewer dimensions where the first are
    1 → the same for one sequence without padding, made where nodes are inserted; None if it is more than such a table
    and a mask of padding

    It is what the mask is computed from, once more, with ones as attention_mask. Both are tried as in `kind_of`: for
    every real token and each real one of its sequence the table must say the same as the mask, which must keep out all
    others. What padding itself looks at is nobody's to read.
    """
    inputs = gm.meta.get(KEY)
    made = list[fx.Node]()
    if not (isinstance(inputs, Inputs) and inputs.past):
        table = _copy(gm.graph, mask, made)
        if table is not None and table is not mask and _is_the_rest(gm, mask, table):
            return table
    for node in reversed(made):
        gm.graph.erase_node(node)
    return None


def _copy(graph: fx.Graph, mask: fx.Node, made: list[fx.Node]) -> fx.Node | None:
    """→ `mask` of one sequence without padding, None if more than sizes, parameters and attention_mask decide it; made:
    gets the nodes that are new"""
    same: dict[fx.Node, Any] = {}
    for node in needed(mask):
        if node.op == "placeholder" and node.name == MASK:
            same[node] = _ones(graph, node, mask, made)
        elif node.target is SIZE and node.args[0].op == "placeholder":  # type: ignore[union-attr]
            same[node] = 1 if node.args[1] == 0 else node
        elif node.op == "get_attr":
            same[node] = node
        elif node.op == "call_function" and set(node.all_input_nodes) <= set(same):
            if any(same[source] is not source for source in node.all_input_nodes):
                copy = graph.node_copy(node, same.__getitem__)
                copy.meta = {}  # its sizes are others now
                made.append(copy)
                same[node] = copy
            else:
                same[node] = node
        elif node.op != "placeholder":
            return None
    return same.get(mask)


def _ones(graph: fx.Graph, given: fx.Node, mask: fx.Node, made: list[fx.Node]) -> fx.Node:
    """given: attention_mask → ones [1, S]"""
    length = next((user for user in given.users if (user.target, *user.args[1:]) == (SIZE, 1) and user < mask), None)
    if length is None:
        length = graph.call_function(SIZE, (given, 1))
        made.append(length)
    ones = graph.call_function(aten.ones.default, ([1, length],), {"dtype": given.meta["val"].dtype})
    made.append(ones)
    return ones


def _is_the_rest(gm: fx.GraphModule, mask: fx.Node, table: fx.Node) -> bool:
    """Whether `mask` is `table` and what keeps padding out"""
    try:
        for real, generator in trials(gm, mask):
            whole, alone = (evaluate(gm, node, real, 0, generator) for node in (mask, table))
            if not _agree(whole, alone, real.bool()):
                return False
    except (RuntimeError, IndexError, ValueError) as error:  # it cannot be computed from a mask alone
        log.debug("the mask %s cannot be tried: %s", mask.name, error)
        return False
    return True


def _agree(mask: Tensor | None, table: Tensor | None, real: Tensor) -> bool:
    """real [B, S]: what `mask` and `table` were computed for"""
    batch, sequence = real.shape
    if mask is None or table is None or mask.dtype != table.dtype or table.dim() > 4:
        return False
    mask, table = (one[(None,) * (4 - one.dim())] for one in (mask, table))
    if table.shape[0] != 1 or table.shape[3] != sequence or mask.shape[3] != sequence or table.isnan().any():
        return False
    wide = mask.expand(batch, -1, sequence, -1)
    low: Callable[[Tensor], Tensor] = torch.logical_not if mask.dtype == torch.bool else lambda x: x <= LOWEST
    return all(
        torch.equal(one[:, own][:, :, own], table.expand(1, -1, sequence, -1)[0][:, own][:, :, own])
        and bool(low(one[:, own][:, :, ~own]).all())
        for one, own in zip(wide, real, strict=True)
    )
