"""Query, key and value that one linear makes: however a model tells them apart, three parts of its columns."""

import operator
from typing import Any

from torch import fx

from toolkit.fuse.heads import RESHAPES
from toolkit.fuse.matching import aten, shape_of


def split_thirds(gm: fx.GraphModule) -> int:
    """unbind(view(x [B, S, W], [B, S, n, heads, d]), 2)[i] → view(split(x, W / n)[i], [B, S, heads, d])"""
    done = 0
    for node in gm.graph.find_nodes(op="call_function", target=aten.unbind.int):
        source = _source(node)
        if source is None:
            continue
        view: Any = node.args[0]
        value, count = source.meta["val"], view.meta["val"].shape[2]
        with gm.graph.inserting_before(node):
            parts = gm.graph.call_function(aten.split.Tensor, (source, value.shape[2] // count, -1))
        parts.meta["val"] = value.split(value.shape[2] // count, -1)
        sizes = view.args[1][:2] + view.args[1][3:]
        for part in list(node.users):
            with gm.graph.inserting_before(part):
                third = gm.graph.call_function(operator.getitem, (parts, part.args[1]))
                heads = gm.graph.call_function(aten.view.default, (third, sizes))
            third.meta["val"] = parts.meta["val"][part.args[1]]
            heads.meta = dict(part.meta)
            part.replace_all_uses_with(heads)
        done += 1
    return done


def _source(node: fx.Node) -> fx.Node | None:
    """→ x of unbind(view(x [B, S, n·heads·d], [B, S, n, heads, d]), 2), None for anything else"""
    view: Any = node.args[0]
    full = shape_of(view)
    if node.args[1:] not in ((2,), (-3,)) or len(full) != 5 or view.target not in RESHAPES:
        return None
    source = view.args[0]
    reads = all(user.target is operator.getitem for user in node.users)
    return source if reads and shape_of(source)[:2] == full[:2] and len(shape_of(source)) == 3 else None
