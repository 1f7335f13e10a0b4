"""DeBERTa's attention, as one module on packed heads: what it adds to the scores depends on tokens and distances."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from targets._disentangled import DisentangledAttention
from targets._missed import miss
from toolkit.fuse.attention import flat_of, padded, put_back
from toolkit.fuse.decided import Numbers, value_of
from toolkit.fuse.heads import COPIES, RESHAPES, Site, read_side_by_side, side_by_side, turns
from toolkit.fuse.mask import LOWEST, PADDING, kind_of
from toolkit.fuse.matching import add_module, aten, free_name, only_user, parameter, shape_of, sizes

ADD, DIV, BMM, TO = aten.add.Tensor, aten.div.Tensor, aten.bmm.default, aten.to.dtype
NEGATED = (aten.bitwise_not.default, aten.logical_not.default)


class Positions(NamedTuple):
    """rows: the parameter [heads, P, d]; entries: int64 [1, S, S], which of them is for each two tokens, those first
    whose content it is; by_key: that is the key's, else the query's"""

    rows: fx.Node
    entries: fx.Node
    by_key: bool


class Scores(NamedTuple):
    """query and key [B·heads, S, d] of softmax(scale · query · keyᵀ + ...), and what is added"""

    query: fx.Node
    key: fx.Node
    scale: float
    added: list[Positions]


def fuse_disentangled(gm: fx.GraphModule) -> int:
    """bmm(softmax(masked_fill(bmm(q, kᵀ / s) + gather(bmm(q, Pᵀ), -1, i) / s + gather(bmm(k, Rᵀ), -1, j)ᵀ / s)), v)
    → DisentangledAttention(q, k and v side by side [B·S, 3H], starts, keep, None, P, i, R, jᵀ), back to [B, S, H]

    P and R are parameters, or constants by now, [heads, P, d], the same for all of a batch, as are the indices, int64
    [1, S, S]; one of the two may be missing. The mask must be the padding's. Indices that are computed alike in several
    layers become one.
    """
    tables: dict[tuple[int, bool], fx.Node] = {}
    numbers, kinds, keys, fused = Numbers(gm), dict[int, str | None](), dict[Any, Any](), 0
    for softmax in gm.graph.find_nodes(op="call_function", target=aten.softmax.int):
        found = _match(gm, softmax)
        if found is None:
            continue
        last, site, added = found
        size, mask = sizes(gm, shape_of(site.out)), numbers.of(site.mask)
        if mask not in kinds:
            kinds[mask] = kind_of(gm, site.mask)
        if size is None or kinds[mask] != PADDING:
            miss(gm, "disentangled", softmax.name, "its mask is not the padding's")
            continue
        if size not in keys:
            keys[size] = padded(gm, size, masked=True)
        with gm.graph.inserting_before(last):
            positions: list[Any] = [None] * 4
            for one in added:
                key = numbers.of(one.entries), one.by_key
                if key not in tables:
                    tables[key] = _table(gm.graph, one)
                positions[2 * one.by_key], positions[2 * one.by_key + 1] = _in_float32(gm, one.rows), tables[key]
            name = add_module(gm, "attention", DisentangledAttention(site.heads, site.scale))
            flat = flat_of(gm.graph, site)
            call = gm.graph.call_module(name, (flat, *keys[size], None, *positions))
            put_back(gm.graph, site, call, size)
        fused += 1
    return fused


def _match(gm: fx.GraphModule, softmax: fx.Node) -> tuple[fx.Node, Site, list[Positions]] | None:
    """→ the product with the values, the attention, and what its scores have added; None for another softmax"""
    weights: Any = only_user(softmax)
    product: Any = only_user(weights) if weights is not None and weights.target in RESHAPES else None
    if product is None or product.target is not BMM or product.args[0] is not weights:
        return None
    joint = only_user(product)
    out = read_side_by_side(joint) if joint is not None and joint.target in RESHAPES else None
    masked = _masked(softmax)
    scores = _scores(gm, masked[0]) if masked is not None else None
    if out is None or masked is None or scores is None or joint is None:
        return None
    sources = [_side_by_side(part) for part in (scores.query, scores.key, product.args[1])]
    if any(source is None or shape_of(source) != shape_of(out) for source in sources):
        return None
    heads, size = joint.meta["val"].shape[1::2]
    if any(parameter(gm, one.rows).shape[::2] != (heads, size) for one in scores.added):  # type: ignore[union-attr]
        return None
    return product, Site(sources, out, int(heads), scores.scale, masked[1], False), scores.added


def _masked(softmax: fx.Node) -> tuple[Any, fx.Node] | None:
    """softmax(masked_fill(view of scores as [B, heads, S, S], not mask, low), -1) → scores and mask"""
    fill: Any = softmax.args[0]
    if softmax.args[1:] != (-1,) or softmax.kwargs or fill.target is not aten.masked_fill.Scalar:
        return None
    view, shut, low = fill.args
    known = view.target in RESHAPES and shut.target in NEGATED and isinstance(low, int | float) and low <= LOWEST
    return (view.args[0], shut.args[0]) if known and shut.args[0].meta["val"].dtype == torch.bool else None


def _scores(gm: fx.GraphModule, total: fx.Node) -> Scores | None:
    """total: a sum in any order → what it is the sum of; None if that is anything else"""
    terms = _terms(total)
    products = [term for term in terms if isinstance(term, fx.Node) and term.target is BMM]
    if len(products) != 1 or len(terms) not in (2, 3) or any(shape_of(term) != shape_of(total) for term in terms):
        return None
    query, keys = products[0].args
    turned, scale = _divided(gm, keys)
    key = _turned(turned)
    rest = [_positions(gm, term, scale) for term in terms if term is not products[0]]
    if scale is None or not isinstance(key, fx.Node) or len({one and one[0].by_key for one in rest}) != len(rest):
        return None
    added = []
    for one in rest:
        if one is None or one[1] is not (key if one[0].by_key else query):
            return None
        added.append(one[0])
    return Scores(query, key, 1 / scale, added)  # type: ignore[arg-type]


def _terms(total: Any) -> list[Any]:
    """→ what `total` is the sum of, but for zeros"""
    if isinstance(total, fx.Node) and total.target is ADD and not total.kwargs:
        return [term for part in total.args for term in _terms(part)]
    return [] if isinstance(total, int | float) and total == 0 else [total]


def _divided(gm: fx.GraphModule, node: Any) -> tuple[Any, float | None]:
    """x / s → x and the number s, which may be a parameter's; None where it is none"""
    if not isinstance(node, fx.Node) or node.target is not DIV or node.kwargs:
        return node, None
    x, by = node.args
    value = value_of(gm, by) if isinstance(by, fx.Node) else by
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return x, float(value) if isinstance(value, int | float) and value else None


def _turned(node: Any) -> Any:
    """xᵀ → x, None for anything else"""
    swaps = isinstance(node, fx.Node) and node.target is aten.transpose.int and len(shape_of(node)) == 3
    return node.args[0] if swaps and {int(dim) % 3 for dim in node.args[1:]} == {1, 2} else None


def _positions(gm: fx.GraphModule, term: Any, scale: float | None) -> tuple[Positions, fx.Node] | None:
    """gather(bmm(x, Pᵀ), -1, index) / scale, or that turned → what it is, and x"""
    gathered, by = _divided(gm, term)
    inner = _turned(gathered)
    by_key = inner is not None
    gathered = inner if by_key else gathered
    if by is None or by != scale or gathered.target is not aten.gather.default or gathered.args[1] not in (-1, 2):
        return None
    product, _, wide = gathered.args
    repeated: Any = _turned(product.args[1]) if product.target is BMM else None
    repeats = repeated is not None and repeated.target is aten.repeat.default and repeated.args[1][1:] == [1, 1]
    if not repeats or wide.target is not aten.expand.default:
        return None
    rows, entries = repeated.args[0], wide.args[0]
    held = parameter(gm, rows)
    square = len(shape_of(entries)) == 3 and shape_of(entries) == ("1", *shape_of(gathered)[1:])
    if held is None or held.dim() != 3 or not square:
        return None
    return Positions(rows, entries, by_key), product.args[0]


def _side_by_side(heads: Any) -> Any:
    """[B·heads, S, d] = view of the transposed view of x [B, S, heads·d] → x, None for anything else"""
    full = shape_of(heads)
    while heads.target in (*RESHAPES, *COPIES) and len(shape_of(heads)) == 3:
        heads = heads.args[0]
    while heads.target in COPIES:
        heads = heads.args[0]
    if not turns(heads) or len(shape_of(heads)) != 4:
        return None
    batch, count, sequence, size = heads.meta["val"].shape
    return side_by_side(heads.args[0]) if full == (str(batch * count), str(sequence), str(size)) else None


def _table(graph: fx.Graph, one: Positions) -> fx.Node:
    """→ int32 [S, S], by the query's place, then the key's"""
    index = graph.call_function(aten.select.int, (one.entries, 0, 0))
    if one.by_key:
        index = graph.call_function(aten.transpose.int, (index, 0, 1))
    return graph.call_function(aten.contiguous.default, (graph.call_function(TO, (index, torch.int32)),))


def _in_float32(gm: fx.GraphModule, rows: fx.Node) -> fx.Node:
    held: Any = parameter(gm, rows)
    if held.dtype == torch.float32:
        return rows
    name = free_name(gm, "in_float32")
    gm.register_buffer(name, held.detach().float(), persistent=False)
    return gm.graph.get_attr(name)
