"""What a model writes into a tensor it has, as a new tensor: passes move reads, and look for no write in between."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from targets._memory import DETACH, VIEWS, keeps_elements, name_of, sharing, sources, written_by

aten = torch.ops.aten
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
KEEP_DTYPE = ("copy_", "fill_", "zero_", "masked_fill_", "index_put_", "index_fill_", "scatter_")  # whatever is written
TO_BOOL = ("eq_", "ne_", "not_equal_", "lt_", "less_", "le_", "less_equal_", "gt_", "greater_", "ge_", "greater_equal_",
           "logical_and_", "logical_not_", "logical_or_", "logical_xor_")  # fmt: skip
TO_LONG = ("cumsum_", "cumprod_")  # of any whole numbers
SCATTERS: dict[Any, Any] = {  # a view → what writes to it into what it is a view of
    aten.select.int: aten.select_scatter.default,
    aten.slice.Tensor: aten.slice_scatter.default,
}


def out_of_place(gm: fx.GraphModule) -> int:
    """x += y → z = x + y, read as x from there on
    x[:, 0] += y → z = select_scatter(x, x[:, 0] + y, 1, 0), read as x from there on

    For each operator of PyTorch's that works in place and has a twin that does not, of the same dtype for sure. What
    the graph is given or holds is left alone, as others see it too, and what is read later through something that may
    be a view or a copy. → how many
    """
    found = 0
    for node in list(gm.graph.nodes):
        twin = _twin(node) if written_by(node) or keeps_elements(node) else None
        found += twin is not None and _rewrite(gm.graph, node, twin)
    return found


def written(gm: fx.GraphModule) -> list[fx.Node]:
    """→ what works in place, or may, on memory that anything else reads"""
    found = []
    for node in gm.graph.nodes:
        changed = written_by(node)
        group = sharing(node, *changed) if changed else set()
        if any(user not in group for one in group for user in one.users):
            found.append(node)
    return found


def _rewrite(graph: fx.Graph, node: fx.Node, twin: OpOverload) -> bool:
    """→ whether `node` works out of place now"""
    x: Any = node.args[0]
    group = sharing(node)
    if any(one.op in ("placeholder", "get_attr") for one in group):
        return False
    earlier = sorted(one for one in group if one < node)
    stale = {one for one in earlier if any(user > node for user in one.users)}
    reshaped = keeps_elements(node) and (node.target is DETACH or all(map(_is_an_object, {x, *stale})))
    alone = reshaped or stale <= {x}
    path = [x] if alone else _made_by(x)
    views = [] if alone else _views_of(path[-1], earlier)
    if not alone and not stale <= {path[-1], *views}:
        return False
    node.target = twin
    whole, values, made = node, dict[fx.Node, fx.Node](), {node}
    with graph.inserting_before(node.next):
        for inner, outer in pairwise(path):
            whole = graph.call_function(SCATTERS[inner.target], (outer, whole, *inner.args[1:]), inner.kwargs)
            whole.meta = dict(outer.meta)
            made.add(whole)
        values[path[-1]] = whole
        for view in views:  # again, of the new value: what is written to one later changes all of them
            values[view] = graph.node_copy(view, lambda source: values.get(source, source))
    made |= set(values.values())
    for old, new in ((node, values[x]), *values.items()):
        if old is not new:
            old.replace_all_uses_with(new, delete_user_cb=lambda user: user > node and user not in made)
    return True


def _is_an_object(node: fx.Node) -> bool:
    """Whether `node` gives a tensor of its own, be it a view: what may be the very tensor that it was given is none"""
    return node.target in VIEWS or not sources(node)


def _made_by(x: fx.Node) -> list[fx.Node]:
    """→ x, what it is a part of, what that is a part of, and so on"""
    path = [x]
    while path[-1].target in SCATTERS:
        path.append(path[-1].args[0])  # type: ignore[arg-type]
    return path


def _views_of(whole: fx.Node, nodes: list[fx.Node]) -> list[fx.Node]:
    """→ of `nodes`, in order, what are views of `whole` or of each other for sure"""
    found: list[fx.Node] = []
    for node in nodes:
        if node.target in VIEWS and node.args[0] in (whole, *found):
            found.append(node)
    return found


def _twin(node: fx.Node) -> OpOverload | None:
    """→ the operator that returns what `node` writes, in the same dtype; None if there is none"""
    target: Any = node.target
    if not isinstance(target, OpOverload):
        return None
    outside = getattr(getattr(aten, name_of(target).removesuffix("_"), None), target._overloadname, None)
    if target.namespace != "aten" or outside in (None, target) or not isinstance(node.args[0], fx.Node):
        return None
    same = [[(one.name, str(one.type)) for one in op._schema.arguments] for op in (target, outside)]
    return outside if same[0] == same[1] and _keeps_dtype(node) else None


def _keeps_dtype(node: fx.Node) -> bool:
    """Whether what does not work in place has the dtype of what `node` writes to"""
    dtypes, name = {_dtype(source) for source in node.all_input_nodes}, name_of(node.target)  # type: ignore[arg-type]
    if name in TO_BOOL:
        return dtypes == {torch.bool}
    if name in TO_LONG:
        return dtypes <= {torch.int64, *FLOATS}
    return name in KEEP_DTYPE or keeps_elements(node) or len(dtypes) == 1


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
