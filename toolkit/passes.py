"""What cleans a captured graph: plain functions (GraphModule) → how many. Each docstring is the rewrite.

The order is decided in pipeline.py, and the runner there cleans up after each.
"""

from typing import Any

import torch
from torch import Tensor, fx

from targets._memory import unchanged
from toolkit.copies import RESHAPES, allow_copies
from toolkit.inputs import KEY, Inputs

aten = torch.ops.aten
LAST = 2**63 - 1  # how a slice says "to the end"
DROPOUTS = (aten.dropout.default, aten.dropout_.default)
CONVERSIONS = (
    aten.to.dtype_layout,
    aten.to.dtype,
    aten.to.device,
    aten.type_as.default,
)


def drop_assertions(gm: fx.GraphModule) -> int:
    """_assert_tensor_metadata(x, dtype, ...) → nothing; dtypes and devices were decided at capture"""
    found = gm.graph.find_nodes(op="call_function", target=aten._assert_tensor_metadata.default)
    for node in found:
        gm.graph.erase_node(node)
    return len(found)


def drop_dropout(gm: fx.GraphModule) -> int:
    """dropout(x, p, train=False) → x"""
    found = [node for target in DROPOUTS for node in gm.graph.find_nodes(op="call_function", target=target)]
    return _bypass(gm, [node for node in found if node.args[2] is False])


def drop_conversions(gm: fx.GraphModule) -> int:
    """to(x, dtype and device that x has) → x"""
    found = [node for target in CONVERSIONS for node in gm.graph.find_nodes(op="call_function", target=target)]
    return _bypass(gm, [node for node in found if _same_kind(node)])


def drop_whole_slices(gm: fx.GraphModule) -> int:
    """slice(x, dim, 0, end of x) → x, the end as a number beyond any or as the size that x has"""
    found = gm.graph.find_nodes(op="call_function", target=aten.slice.Tensor)
    return _bypass(gm, [node for node in found if _is_whole(node)])


def drop_same_views(gm: fx.GraphModule) -> int:
    """view(x, the shape that x has), alias(x) → x"""
    targets = (*RESHAPES, aten.alias.default)
    found = [node for target in targets for node in gm.graph.find_nodes(op="call_function", target=target)]
    return _bypass(gm, [node for node in found if _same_shape(node)])


def drop_empty_parts(gm: fx.GraphModule) -> int:
    """cat([nothing, x], dim) → x, where nothing is of shape [0], as transformers begins a cache, or of size 0 in `dim`,
    as what Phi-3 turns no further

    Not where anything writes to either later: they are one then.
    """
    found, end = 0, gm.graph.output_node()
    for node in gm.graph.find_nodes(op="call_function", target=aten.cat.default):
        nothing = [part for part in node.args[0] if _is_nothing(part, *node.args[1:])]  # type: ignore[union-attr]
        rest = [part for part in node.args[0] if part not in nothing]
        whole = nothing and len(rest) == 1 and _dtype(rest[0]) == _dtype(node)
        if whole and unchanged((node, rest[0]), node, end):
            allow_copies(node)
            node.replace_all_uses_with(rest[0])
            gm.graph.erase_node(node)
            for part in nothing:
                _erase_up(gm, part)
            found += 1
    return found


def outputs_to_float32(gm: fx.GraphModule) -> int:
    """output(x in bfloat16 or float16) → output(x.to(float32)), but a cache, which the next call takes as it is"""
    output = gm.graph.output_node()
    inputs = gm.meta.get(KEY)
    found: Any = output.args[0]
    kept = len(inputs.past) if isinstance(inputs, Inputs) else 0
    low = [n for n in dict.fromkeys(found[: len(found) - kept]) if _dtype(n) in (torch.bfloat16, torch.float16)]
    for node in low:
        with gm.graph.inserting_before(output):
            wide = gm.graph.call_function(aten.to.dtype, (node, torch.float32))
        wide.meta["val"] = node.meta["val"].to(torch.float32)
        output.replace_input_with(node, wide)
    return len(low)


def _is_nothing(part: Any, dim: int = 0) -> bool:
    """Whether a part of cat adds nothing along `dim`; a size that is a symbol may be 0, and is not known to be"""
    value = _value(part)
    return isinstance(value, Tensor) and (value.shape == (0,) or str(value.shape[dim]) == "0")


def _is_whole(node: fx.Node) -> bool:
    """Whether a slice takes all of its dimension; symbols compare by name"""
    given: tuple[Any, ...] = node.args
    x, dim, start, end, step = given + (None, 0, None, LAST, 1)[len(given) :]
    size, value = end.meta.get("val") if isinstance(end, fx.Node) else end, _value(x)
    to_end = end == LAST or (isinstance(value, Tensor) and str(size) == str(value.shape[dim]))
    return bool(start in (0, None) and to_end and step == 1 and not node.kwargs)


def _bypass(gm: fx.GraphModule, nodes: list[fx.Node]) -> int:
    for node in nodes:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        gm.graph.erase_node(node)
    return len(nodes)


def _erase_up(gm: fx.GraphModule, node: Any) -> None:
    """Erases what nothing uses, up to where it comes from: what works in place is taken for used by cleaning."""
    while isinstance(node, fx.Node) and not node.users and node.op != "placeholder":
        above = node.args[0] if node.args else None
        gm.graph.erase_node(node)
        node = above


def _value(node: Any) -> Any:
    return node.meta.get("val") if isinstance(node, fx.Node) else None


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = _value(node)
    return value.dtype if isinstance(value, Tensor) else None


def _same_shape(node: fx.Node) -> bool:
    """Whether the capture noted the same sizes before and after; symbols compare by name"""
    before, after = _value(node.args[0]), _value(node)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    return [str(size) for size in before.shape] == [str(size) for size in after.shape]


def _same_kind(node: fx.Node) -> bool:
    before, after = _value(node.args[0]), _value(node)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    copies = node.kwargs.get("copy", False) or any(argument is True for argument in node.args)
    return before.dtype == after.dtype and before.device == after.device and not copies
