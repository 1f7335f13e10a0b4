"""The way to rows of tokens and back from them, in few steps: each costs more than its arithmetic, once a call."""

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import guard_or_false

aten, opswap = torch.ops.aten, torch.ops.opswap
HOW = ("size", "turned", "interleaved")  # what rotary takes after the angles
KINDS = (torch.float32, torch.bfloat16)  # what gelu takes


def in_few_steps(graph: fx.GraphModule) -> None:
    """take_together, turn_by_places, unpack_apart and see_as_padded"""
    take_together(graph)
    turn_by_places(graph)
    unpack_apart(graph)
    see_as_padded(graph)


def take_together(graph: fx.GraphModule) -> int:
    """index_select(reshape(x, [-1]), 0, tokens) for several x int64 [B, S] → take_tokens([x, ...], tokens); of an x
    that is expand(y, [B, S]) of one row of S, y is taken, or what y is the first S of. tokens: pack_tokens' → how many

    One x at least is no such row: it alone says what B and S are. What is made after some of these ids are read stays.
    Of unsqueeze(x, 2) that is reshaped to [-1, 1], as a model multiplies with its mask, x is taken, and made a column.
    """
    found: dict[fx.Node, dict[fx.Node, fx.Node]] = {}
    for node in graph.graph.find_nodes(op="call_function", target=aten.index_select.default):
        source = _taken_from(node)
        if source is not None and node.users:
            found.setdefault(node.args[2], {})[node] = source  # type: ignore[index]
    done = sum(_take(graph.graph, tokens, _in_time(sources)) for tokens, sources in found.items())
    graph.graph.eliminate_dead_code()
    return done


def _taken_from(node: fx.Node) -> fx.Node | None:
    """→ x of the rewrite, None for another index_select"""
    flat, dim, tokens = node.args
    packed = tokens.args[0] if isinstance(tokens, fx.Node) and tokens.target is operator.getitem else None
    if dim != 0 or not isinstance(packed, fx.Node) or packed.target is not opswap.pack_tokens.default:
        return None
    if not isinstance(flat, fx.Node) or flat.target is not aten.reshape.default:
        return None
    x: Any = flat.args[0]
    if _is_column(node):
        return x.args[0] if x.target is aten.unsqueeze.default and x.args[1] in (-1, 2) else None
    return x if flat.args[1] == [-1] else None


def _is_column(node: Any) -> bool:
    return bool(node.args[0].args[1] == [-1, 1])


def _in_time(sources: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """sources: the x of each index_select → what is taken in its place, of those that can be"""
    whole = [x for x in sources.values() if _is_ids(x) and x.target is not aten.expand.default]
    if not whole:
        return {}
    size = whole[0].meta["val"].shape[1]
    taken = {node: _row_of(x, size) or (x if _is_ids(x) else None) for node, x in sources.items()}
    first = min(user for node, x in taken.items() if x is not None for user in node.users)
    found = {node: x for node, x in taken.items() if x is not None and x < first}
    return found if any(x in whole for x in found.values()) else {}


def _take(graph: fx.Graph, tokens: fx.Node, sources: dict[fx.Node, fx.Node]) -> int:
    """sources: what is taken in the place of each index_select, all made before the first that reads one → how many"""
    if not sources:
        return 0
    with graph.inserting_before(min(user for node in sources for user in node.users)):
        call = graph.call_function(opswap.take_tokens.default, (list(sources.values()), tokens))
        parts = [graph.call_function(operator.getitem, (call, index)) for index in range(len(sources))]
        columns = {
            node: graph.call_function(aten.unsqueeze.default, (part, 1))
            for node, part in zip(sources, parts, strict=True)
            if _is_column(node)
        }
    for node, part in zip(sources, parts, strict=True):
        node.replace_all_uses_with(columns.get(node, part))
    return len(sources)


def _row_of(x: fx.Node, size: Any) -> fx.Node | None:
    """→ the row of `size` that all of `x` is, or what begins with it; None where it is none"""
    row: Any = x.args[0] if x.target is aten.expand.default else None
    if not _is_ids(row) or not all(
        guard_or_false(a == b) for a, b in zip(row.meta["val"].shape, (1, size), strict=True)
    ):
        return None
    begins = row.target is aten.slice.Tensor and row.args[1:3] == (1, 0) and len(row.args) == 4
    longer: Any = row.args[0] if begins else None
    return longer if isinstance(longer, fx.Node) else row


def _is_ids(node: Any) -> bool:
    """Whether the capture noted that `node` is int64 [B, S]"""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.dtype == torch.int64 and value.dim() == 2


def turn_by_places(graph: fx.GraphModule) -> int:
    """rotary(x, cos, sin, ...) of rows of tokens, cos and sin index_select(reshape(expand(y, [B, S, r]), [-1, r]), 0,
    tokens) of some y [1, S, r] → rotary(x, y's of cos, y's of sin, ..., tokens). → how many"""
    made: dict[fx.Node, fx.Node] = {}
    done = 0
    for node in graph.graph.find_nodes(op="call_function", target=opswap.rotary.default):
        x, cos, sin, *how = node.args
        sources = [_angles_of(one) for one in (cos, sin)]
        tokens = {one.args[2] for one in (cos, sin) if one.target is aten.index_select.default}  # type: ignore[union-attr]
        if None in sources or len(tokens) != 1 or len(how) > 3:
            continue
        for source in sources:
            if source not in made:
                with graph.graph.inserting_after(source):  # type: ignore[arg-type]
                    made[source] = graph.graph.call_function(aten.select.int, (source, 0, 0))  # type: ignore[index]
        given = {**dict(zip(HOW, how, strict=False)), **node.kwargs, "places": tokens.pop()}
        node.args, node.kwargs = (x, *(made[source] for source in sources)), given  # type: ignore[index]
        done += 1
    graph.graph.eliminate_dead_code()
    return done


def _angles_of(node: Any) -> fx.Node | None:
    """→ y of the rewrite, [1, S, r], None for anything else"""
    flat = node.args[0] if node.target is aten.index_select.default and node.args[1] == 0 else None
    wide = flat.args[0] if flat is not None and flat.target is aten.reshape.default else None
    if flat is None or wide is None or wide.target is not aten.expand.default or flat.args[1][:1] != [-1]:
        return None
    value = wide.args[0].meta.get("val")
    return wide.args[0] if isinstance(value, Tensor) and value.dim() == 3 and value.shape[0] == 1 else None


def unpack_apart(graph: fx.GraphModule) -> int:
    """split(unpack_tokens(rows, tokens, B, S), 1, -1), each part squeezed and made contiguous
    → unpack_columns(rows, tokens, B, S): what a head for questions does with its two outputs. → how many"""
    done = 0
    for node in graph.graph.find_nodes(op="call_function", target=opswap.unpack_tokens.default):
        columns = _columns(next(iter(node.users))) if len(node.users) == 1 else None
        if columns is None:
            continue
        with graph.graph.inserting_before(node):
            call = graph.graph.call_function(opswap.unpack_columns.default, node.args)
            for index, column in columns:
                column.replace_all_uses_with(graph.graph.call_function(operator.getitem, (call, index)))
        done += 1
    graph.graph.eliminate_dead_code()
    return done


def _columns(split: fx.Node) -> list[tuple[int, fx.Node]] | None:
    """→ the number of each part that is read, and the node that has it as [B, S], contiguous; None where one is read
    otherwise"""
    if split.target is not aten.split.Tensor or split.args[1:] not in ((1, -1), (1, 2)):
        return None
    found = []
    for part in split.users:
        squeezed = next(iter(part.users), None)
        fits = part.target is operator.getitem and len(part.users) == 1 and squeezed is not None
        if not fits or squeezed.target is not aten.squeeze.dim or squeezed.args[1] not in (-1, 2):  # type: ignore
            return None
        copies = [user for user in squeezed.users if user.target is aten.contiguous.default]  # type: ignore[union-attr]
        if len(copies) != 1 or len(squeezed.users) != 1:  # type: ignore[union-attr]
            return None
        found.append((part.args[1], copies[0]))
    return found  # type: ignore[return-value]


def see_as_padded(graph: fx.GraphModule) -> int:
    """unpack_tokens(rows, tokens, B, S) → padded(rows, tokens, B, S), in place: a language model's logits are too many
    to be copied for nothing. → how many"""
    found = graph.graph.find_nodes(op="call_function", target=opswap.unpack_tokens.default)
    for node in found:
        node.target = padded
    return len(found)


def padded(rows: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    """opswap::unpack_tokens; where all tokens are real, the rows themselves as [batch, sequence, C]

    While a graph is exported nobody knows whether they are, and the operator stays.
    """
    if guard_or_false(rows.shape[0] == batch * sequence):
        return rows.view(batch, sequence, rows.shape[1])
    return opswap.unpack_tokens(rows, tokens, batch, sequence)


def own_gelu(graph: fx.GraphModule) -> int:
    """aten.gelu(x) → opswap.gelu(x), float32 or bfloat16: PyTorch's threads would be awake for it, and stay so for a
    while. → how many"""
    found = graph.graph.find_nodes(op="call_function", target=aten.gelu.default)
    found = [node for node in found if getattr(node.meta.get("val"), "dtype", torch.float32) in KINDS]
    for node in found:
        by_tanh = node.kwargs.get("approximate", "none") == "tanh"
        node.target, node.args, node.kwargs = opswap.gelu.default, (node.args[0], by_tanh), {}
    return len(found)
