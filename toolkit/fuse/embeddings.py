"""The embeddings: lookups, their sum and its norm as one."""

from typing import Any

import torch
from torch import fx

from targets._fused import EmbedNorm, NormRows
from toolkit.fuse.matching import add_module, aten, calls, is_rows, mark_rows, module_of, only_user, parameter

MOST = 3  # tables: tokens, positions, token types


def fuse_lookups(gm: fx.GraphModule) -> int:
    """NormRows(embedding(a, i) + embedding(b, j) + embedding(c, k)) → EmbedNorm(a, b, c)(i, j, k)

    Two or three tables, summed from left to right, the lookups on rows of tokens and read by nothing else; or one in
    float32, where the norm does not keep what it holds: a decoder, whose first norm does, looks up a token at a time. →
    how many
    """
    fused = 0
    for node in calls(gm, NormRows):
        found = _lookups(node.args[0])
        tables = [parameter(gm, lookup.args[0]) for lookup in found]
        norm: Any = module_of(gm, node)
        fits = 2 <= len(found) <= MOST or (len(found) == 1 and not norm.keeps_sum)
        if not fits or not all(table is not None for table in tables):
            continue
        if len(found) == 1 and tables[0].dtype != torch.float32:  # type: ignore[union-attr]  # it would be widened
            continue
        name = add_module(gm, "embed", EmbedNorm(tables, norm))  # type: ignore[arg-type]
        with gm.graph.inserting_before(node):
            embed = mark_rows(gm.graph.call_module(name, tuple(lookup.args[1] for lookup in found)))
        node.replace_all_uses_with(embed)
        fused += 1
    return fused


def _lookups(node: Any) -> list[fx.Node]:
    """→ the lookups that `node` is the sum of, from left to right; [] where it is anything else"""
    if not is_rows(node) or only_user(node) is None:
        return []
    if node.target is aten.embedding.default:
        return [node]
    if node.target is not aten.add.Tensor or node.kwargs:
        return []
    first, second = (_lookups(source) for source in node.args)
    if len(second) > 1:  # a + (b + c) is not (a + b) + c in floats, but (b + c) + a
        first, second = second, first
    return first + second if first and len(second) == 1 else []
