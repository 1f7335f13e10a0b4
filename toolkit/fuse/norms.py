"""LayerNorm or RMSNorm on rows, with the linear and the sum before it and the quantization after it."""

import operator
from typing import Any

from torch import fx, nn

from targets._fused import NormRows, Quantize, RowsLinear, RowsLinearAddNorm
from targets._linear import Activation
from targets._weight import WeightLinear
from toolkit.fuse.matching import add_module, aten, is_rows, mark_rows, module_of, only_user, parameter, sites
from toolkit.fuse.norm_nodes import NORMS, Norm, norms, one_norm

FLOATS = (nn.Linear, WeightLinear)
Vectors = tuple[fx.Node, fx.Node]  # the nodes that read scale and shift of a smoothing
Way = tuple[Activation, Vectors | None]  # how the result of a norm is quantized, and how it is smoothed before


def fuse_add_norm(gm: fx.GraphModule) -> int:
    """y = layer_norm(RowsLinear(rows) + residual), Quantize(y) → (y, rows) = RowsLinearAddNorm(rows, residual)
    s = RowsLinear(rows) + residual, Quantize(layer_norm(s)) → (s, rows) = RowsLinearAddNorm(rows, residual), where
    others read s, and nothing else the norm

    What is quantized may be addcmul(shift, y, scale), as smoothing leaves it. y alone where no call's result is
    quantized; of several ways to quantize it, the first. All calls of a linear, if they have one norm, or none. With
    linears in float: layer_norm(linear(x) + residual) → NormRows(linear(x), residual). rms_norm like layer_norm. → how
    many calls
    """
    fused = _add_norm_of_floats(gm)
    for name, nodes in sites(gm, RowsLinear).items():
        linear: Any = gm.get_submodule(name).linear
        ends = [_norm_end(node) or _inner_norm_end(gm, node) for node in nodes]
        norm, kept = one_norm(gm, ends), {_keeps_sum(end) for end in ends if end is not None}
        if norm is None or len(kept) > 1:
            continue
        way = next((way for end in ends for way in _ways(gm, end)), None)
        gm.set_submodule(name, RowsLinearAddNorm(linear, *_parts(gm, norm, way, *kept)).eval())
        for node, end in zip(nodes, ends, strict=True):
            _replace_norm(gm, end, name, (node.args[0], _residual(node)), way)
        fused += len(nodes)
    return fused


def fuse_norm(gm: fx.GraphModule) -> int:
    """y = layer_norm(x), Quantize(y) → (y, rows) = NormRows(x): the norm of the embeddings, and any other on rows
    Quantize(layer_norm(x)) → (x, rows) = NormRows(x), where others read x, and nothing else the norm; rms_norm likewise

    What is quantized may be addcmul(shift, y, scale), as smoothing leaves it. y alone where it is not quantized: float
    linears read it, or none.
    """
    fused = 0
    for node in norms(gm):
        norm, way = one_norm(gm, [node]), next(iter(_ways(gm, node)), None)
        if norm and is_rows(node):
            kept = is_rows(node.args[0]) and _keeps_sum(node) and _only_quantized(gm, node)
            name = add_module(gm, "norm", NormRows(*_parts(gm, norm, way, kept)))
            _replace_norm(gm, node, name, (node.args[0],), way)
            fused += 1
    return fused


def _add_norm_of_floats(gm: fx.GraphModule) -> int:
    fused = 0
    for node in norms(gm):
        add: Any = node.args[0]
        linears = [source for source in add.all_input_nodes if isinstance(module_of(gm, source), FLOATS)]
        linear = next((source for source in linears if _norm_end(source) is node), None)
        if linear is not None and (norm := one_norm(gm, [node])):
            way = next(iter(_ways(gm, node)), None)
            name = add_module(gm, "norm", NormRows(*_parts(gm, norm, way)))
            _replace_norm(gm, node, name, (linear, _residual(linear)), way)
            fused += 1
    return fused


def _norm_end(node: fx.Node) -> Any:
    """node + residual and a norm, each the only reader → the norm, None for anything else"""
    add = _sum_with(node)
    end = None if add is None else only_user(add)
    return end if end is not None and end.target in NORMS else None


def _inner_norm_end(gm: fx.GraphModule, node: fx.Node) -> Any:
    """node + residual, which several read, and the one norm among them, if it is quantized and nothing else → the norm,
    None for anything else"""
    add = _sum_with(node)
    ends = [] if add is None else [user for user in add.users if user.target in NORMS]
    return ends[0] if len(ends) == 1 and _only_quantized(gm, ends[0]) else None


def _keeps_sum(norm: Any) -> bool:
    """Whether others than `norm` read what it normalizes"""
    return len(norm.args[0].users) > 1


def _only_quantized(gm: fx.GraphModule, norm: fx.Node) -> bool:
    """Whether all that reads `norm` quantizes it, in one way"""
    ways = list(_ways(gm, norm).values())
    return len(ways) == 1 and all(user in ways[0] or _smoothing(gm, norm, user) is not None for user in norm.users)


def _sum_with(node: fx.Node) -> fx.Node | None:
    """→ node + residual, rows both, if nothing else reads `node`"""
    add = only_user(node)
    if add is None or add.target is not aten.add.Tensor or add.kwargs or not is_rows(_residual(node)):
        return None
    return add


def _residual(node: fx.Node) -> Any:
    """node + x or x + node → x; None for node + node"""
    add = next(iter(node.users))
    return next((source for source in add.args if source is not node), None)


def _ways(gm: fx.GraphModule, node: fx.Node) -> dict[Way, list[fx.Node]]:
    """→ the calls of Quantize that read `node`, or what smoothing makes of it, by the way in which they do"""
    found: dict[Way, list[fx.Node]] = {}
    for user in node.users:
        module = module_of(gm, user)
        if isinstance(module, Quantize):
            found.setdefault((module.activation, None), []).append(user)
        elif (smooth := _smoothing(gm, node, user)) is not None:
            for (how, _), calls in _ways(gm, user).items():
                found.setdefault((how, smooth), []).extend(calls)
    return found


def _smoothing(gm: fx.GraphModule, node: fx.Node, user: fx.Node) -> Vectors | None:
    """→ scale and shift of addcmul(shift, node, scale), both of one dimension; None for anything else"""
    if user.target is not aten.addcmul.default or user.kwargs or user.args[1] is not node:
        return None
    shift, _, scale = user.args
    vectors = [parameter(gm, vector) for vector in (scale, shift)]
    return (scale, shift) if all(v is not None and v.dim() == 1 for v in vectors) else None  # type: ignore


def _parts(gm: fx.GraphModule, norm: Norm, way: Way | None, keeps_sum: bool = False) -> tuple[Any, ...]:
    """→ what a NormRows is made of"""
    return norm.gamma, norm.beta, norm.eps, *_means(gm, way), keeps_sum, norm.rms


def _means(gm: fx.GraphModule, way: Way | None) -> tuple[Activation | None, Any]:
    """→ what a NormRows is told of `way`: the activation, and the tensors of the smoothing"""
    how, smooth = way or (None, None)
    return how, None if smooth is None else tuple(parameter(gm, vector) for vector in smooth)


def _replace_norm(gm: fx.GraphModule, norm: fx.Node, name: str, args: tuple[Any, ...], way: Way | None) -> None:
    """Calls the module `name` where `norm` was: its rows for what quantized that in `way`, the other of its results for
    `norm`, or where it keeps the sum, and then at once, for that: others may read it before the norm does."""
    total: Any = norm.args[0]
    keeps_sum = gm.get_submodule(name).keeps_sum
    with gm.graph.inserting_before(total.next if keeps_sum else norm):
        y = call = mark_rows(gm.graph.call_module(name, args))
        if way is not None:
            y, rows = (mark_rows(gm.graph.call_function(operator.getitem, (call, i))) for i in (0, 1))
            for user in _ways(gm, norm).get(way, []):
                user.replace_all_uses_with(rows)
    if keeps_sum:
        total.replace_all_uses_with(y, delete_user_cb=lambda user: user not in (norm, call))
    else:
        norm.replace_all_uses_with(y)
