"""From padded batches [B, S, C] to rows of tokens [T, C], as far as the graph is token-wise around its Attention."""

import operator
from typing import Any

import torch
from torch import fx, nn

from targets._attention import Attention, BiasedAttention, CachedAttention
from targets._disentangled import DisentangledAttention
from targets._gate import Gate
from targets._linear import QuantizedLinear
from targets._weight import WeightLinear
from toolkit.fuse.heads import COPIES
from toolkit.fuse.matching import ROWS, SIZE, aten, calls, is_rows, mark_rows, module_of, parameter, shape_of, sizes
from toolkit.fuse.norm_nodes import NORMS

ENTRY, EXIT = "entry", "exit"  # what the meta ROWS says of the nodes at the border
LINEARS = (QuantizedLinear, WeightLinear, nn.Linear)
EMBEDDING = aten.embedding.default
ELEMENTWISE = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.addcmul.default,
    aten.pow.Tensor_Scalar,
    aten.neg.default,
    aten.gelu.default,
    aten.relu.default,
    aten.silu.default,
    aten.tanh.default,
    aten.sigmoid.default,
    aten.erf.default,
    aten.to.dtype,
    torch.ops.opswap.rounding_error.default,
    torch.ops.opswap.rotary.default,
    *COPIES,
}


def to_rows(gm: fx.GraphModule) -> int:
    """[B, S, C] → token-wise operators and Attention → [B, S, C]
    → [B·S, C] → the same → [B·S, C], read as [B, S, C] by all else

    It reaches from each Attention and linear to the first operators that are not token-wise, and to the ids that the
    embeddings look up. → how many Attention are on rows now, or linears where a model attends in another way
    """
    cached = [part for node in calls(gm, CachedAttention) for part in node.users if part.args[1] == 0]
    own = [node for kind in (Attention, BiasedAttention, DisentangledAttention) for node in calls(gm, kind)]
    attentions = [node for node in (*own, *cached) if not is_rows(node)]
    backs = {next(iter(node.users)): node for node in attentions}
    linears = [node for node in gm.graph.find_nodes(op="call_module") if isinstance(module_of(gm, node), LINEARS)]
    seeds = [node for node in (*backs, *linears) if len(shape_of(node)) == 3]
    size = next((found for node in seeds if (found := sizes(gm, shape_of(node)))), None)
    if size is None:
        return 0
    shape = size[0].meta[SIZE]
    backs = {back: node for back, node in backs.items() if shape_of(back)[:2] == shape}
    region = _Region(gm, shape, size, backs)
    region.grow([node for node in seeds if shape_of(node)[:2] == shape])
    region.rebuild()
    region.leave()
    return len(backs or [node for node in linears if node in region.inside])


def _call_of(rows: Any) -> Any:
    """rows: what an Attention or a CachedAttention returns for its tokens → the call"""
    return rows.args[0] if rows.target is operator.getitem else rows


class _Region:
    """The token-wise parts of a graph, around its Attention; `rows` is the same on rows."""

    def __init__(
        self, gm: fx.GraphModule, shape: tuple[str, ...], size: tuple[fx.Node, fx.Node], backs: dict[fx.Node, fx.Node]
    ) -> None:
        self.gm, self.shape, self.size = gm, shape, size
        self.attention = backs  # the [B, S, H] that is read of an Attention → its rows
        self.flats: set[Any] = {_call_of(node).args[0] for node in backs.values()}  # the [B·S, 3H] that it reads
        self.inside: set[fx.Node] = set()
        self.rows: dict[fx.Node, fx.Node] = {}  # [B, S, C] → [B·S, C]

    def grow(self, seeds: list[fx.Node]) -> None:
        """Finds every node that is joined to one of `seeds` or an Attention through token-wise ones."""
        todo = [*seeds, *(flat.args[0] for flat in self.flats)]
        while todo:
            node = todo.pop()
            if node not in self.inside and (node in self.attention or self._joins(node)):
                self.inside.add(node)
                todo += [*node.all_input_nodes, *node.users]

    def rebuild(self) -> None:
        """Makes the inside anew, on rows; what is not used any more is cleaned away later."""
        attentions = {_call_of(rows): rows for rows in self.attention.values()}
        for node in list(self.gm.graph.nodes):
            if node in attentions:
                flat: Any = node.args[0]
                node.replace_input_with(flat, self._as_rows(flat.args[0], node))
                mark_rows(attentions[node])
            elif node in self.attention:
                self.rows[node] = self.attention[node]
            elif node in self.inside:
                self.rows[node] = self._copy(node)

    def leave(self) -> None:
        """Whatever reads the inside from outside reads the rows as [B, S, C]."""
        for node in sorted(self.inside):
            readers = [user for user in node.users if user not in self.inside and user not in self.flats]
            if readers:
                with self.gm.graph.inserting_before(min(readers)):
                    shape = [*self.size, node.meta["val"].shape[2]]
                    full = self.gm.graph.call_function(aten.reshape.default, (self.rows[node], shape))
                full.meta.update({"val": node.meta["val"], ROWS: EXIT})
                for user in readers:
                    user.replace_input_with(node, full)

    def _joins(self, node: fx.Node) -> bool:
        """Whether `node` is token-wise, [B, S, C] from [B, S, C] and parameters of one dimension"""
        if self._shape(node)[:2] != self.shape or len(self._shape(node)) != 3:
            return False
        if node.target is EMBEDDING:
            return self._is_tokens(node.args[1], 2)
        if not self._token_wise(node):
            return False
        sources = node.args[:1] if node.target is aten.linear.default else node.all_input_nodes
        return all(len(self._shape(source)) <= 1 or self._is_tokens(source, 3) for source in sources)

    def _token_wise(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(module_of(self.gm, node), (*LINEARS, Gate))
        if node.target is aten.linear.default:  # of a weight that others use too, a head that is the embedding
            return parameter(self.gm, node.args[1]) is not None
        if node.target in NORMS:
            return len(node.args[1]) == 1  # type: ignore[arg-type]
        if node.target is aten.cat.default:
            return node.args[1:] in ((-1,), (2,))
        return node.op == "call_function" and node.target in ELEMENTWISE

    def _is_tokens(self, node: Any, dims: int) -> bool:
        """Whether `node` has `dims` dimensions, the first two of them [B, S], or 1 where it is repeated"""
        shape = self._shape(node)
        return len(shape) == dims and all(have in ("1", full) for have, full in zip(shape, self.shape, strict=False))

    def _shape(self, node: Any) -> tuple[str, ...]:
        held = parameter(self.gm, node)
        return shape_of(node) if held is None else tuple(str(size) for size in held.shape)

    def _copy(self, node: fx.Node) -> fx.Node:
        """→ `node` on rows"""
        sources = [node.args[1]] if node.target is EMBEDDING else node.all_input_nodes
        dims = 2 if node.target is EMBEDDING else 3
        tokens = {source: self._as_rows(source, node) for source in sources if self._is_tokens(source, dims)}
        with self.gm.graph.inserting_before(node):
            copy = self.gm.graph.node_copy(node, lambda source: tokens.get(source, source))
        if copy.target is aten.cat.default:
            copy.args = (copy.args[0], -1)
        return mark_rows(copy)

    def _as_rows(self, node: Any, before: fx.Node) -> fx.Node:
        """[B, S, C] or ids [B, S] → rows, made before `before` where it enters; an embedding enters at its ids"""
        if node not in self.rows:
            at_ids = node.target is EMBEDDING and self._is_tokens(node.args[1], 2)
            self.rows[node] = self._copy_before(node, before) if at_ids else self._enter(node, before)
        return self.rows[node]

    def _copy_before(self, node: fx.Node, before: fx.Node) -> fx.Node:
        ids = self._as_rows(node.args[1], before)
        with self.gm.graph.inserting_before(before):
            return mark_rows(self.gm.graph.node_copy(node, lambda source: ids if source is node.args[1] else source))

    def _enter(self, node: fx.Node, before: fx.Node) -> fx.Node:
        held, graph = parameter(self.gm, node), self.gm.graph
        width = list((node.meta["val"] if held is None else held).shape[2:])
        with graph.inserting_before(before):
            exact = self._shape(node)[:2] == self.shape
            wide = node if exact else graph.call_function(aten.expand.default, (node, [*self.size, *width]))
            rows = graph.call_function(aten.reshape.default, (wide, [-1, *width]))
        rows.meta[ROWS] = ENTRY
        return rows
