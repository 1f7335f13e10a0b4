"""Rows of tokens in float32, where the graph was captured in bfloat16: only linears and attention go on in that."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from targets._bf16 import Bf16Linear
from targets._fused import NormRows
from toolkit.fuse.matching import ROWS, aten, is_rows, mark_rows, module_of, parameter, sites
from toolkit.fuse.norm_nodes import NORMS
from toolkit.fuse.packing import stays_per_token
from toolkit.fuse.rows import EMBEDDING, EXIT

LOW = torch.bfloat16
TO = aten.to.dtype


def widen_rows(gm: fx.GraphModule) -> int:
    """rows in bfloat16 → rows in float32: those that enter and those that are looked up, the parameters of norms, and
    nn.Linear → Bf16Linear; read as [B, S, C] again by what is not token-wise, they are bfloat16 as before

    Each token's sums and norms are rounded once less. A linear that is also called on anything but rows stays, and its
    rows are converted. → how many nodes and modules were changed
    """
    changed = 0
    for name, nodes in sites(gm, nn.Linear).items():
        linear: Any = gm.get_submodule(name)
        if linear.weight.dtype == LOW and all(is_rows(node.args[0]) for node in nodes):
            gm.set_submodule(name, Bf16Linear(linear).eval())
            changed += 1
    for node in list(gm.graph.nodes):
        if is_rows(node):
            changed += _leave(gm, node) if node.meta[ROWS] == EXIT else _widen(gm, node)
    return changed


def _widen(gm: fx.GraphModule, node: fx.Node) -> int:
    """Makes the result of `node`, rows that may be in bfloat16, float32. → 1 if there was anything to do"""
    module = module_of(gm, node)
    if isinstance(module, NormRows):
        module.to(torch.float32)
        return 1
    if _keeps_low(gm, node, module):
        node.replace_input_with(node.args[0], _cast(gm, node.args[0], LOW, node))  # type: ignore[arg-type]
        return _cast_result(gm, node, torch.float32)
    if node.target is TO and LOW in node.args:
        node.args = (node.args[0], torch.float32, *node.args[2:])
        return 1
    if node.target in NORMS:
        return sum(_widen_input(gm, node, source) for source in node.all_input_nodes if not is_rows(source))
    looked_up = node.target is EMBEDDING
    enters = module is None and not any(is_rows(source) for source in node.all_input_nodes)
    if (looked_up or enters) and _dtype(gm, node.args[0]) == LOW:
        return _cast_result(gm, node, torch.float32)
    return 0


def _keeps_low(gm: fx.GraphModule, node: fx.Node, module: nn.Module | None) -> bool:
    """Whether `node` is a linear with weights in bfloat16 that takes nothing else: one that stays, or whose weight
    others use too"""
    if node.target is aten.linear.default:
        return _dtype(gm, node.args[1]) == LOW
    return isinstance(module, nn.Linear) and not isinstance(module, Bf16Linear) and module.weight.dtype == LOW


def _leave(gm: fx.GraphModule, node: fx.Node) -> int:
    """Back to bfloat16 for what computes with it; not for what only hands it on to the output, which is float32."""
    low = node.meta["val"].dtype == LOW and not stays_per_token(node)
    return _cast_result(gm, node, LOW) if low else 0


def _widen_input(gm: fx.GraphModule, node: fx.Node, source: fx.Node) -> int:
    if _dtype(gm, source) != LOW:
        return 0
    node.replace_input_with(source, _cast(gm, source, torch.float32, node))
    return 1


def _cast_result(gm: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> int:
    cast = _cast(gm, node, dtype, node.next)
    cast.meta = dict(node.meta)
    node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)
    return 1


def _cast(gm: fx.GraphModule, source: fx.Node, dtype: torch.dtype, before: fx.Node) -> fx.Node:
    with gm.graph.inserting_before(before):
        cast = gm.graph.call_function(TO, (source, dtype))
    return mark_rows(cast) if is_rows(source) else cast


def _dtype(gm: fx.GraphModule, node: Any) -> torch.dtype | None:
    """→ that of the value which `node` holds or was made of without arithmetic"""
    while isinstance(node, fx.Node):
        value = node.meta.get("val", parameter(gm, node))
        if isinstance(value, Tensor):
            return value.dtype
        node = next(iter(node.args), None)
    return None
