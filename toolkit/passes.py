"""The rewrites of a captured graph: plain functions (GraphModule) → how many. Each docstring is the rewrite.

The order is decided in pipeline.py, and the runner there cleans up after each.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, fx, nn

from toolkit.inputs import KEY, Inputs
from toolkit.report import keep

aten = torch.ops.aten
LAST = 2**63 - 1  # how a slice says "to the end"
CONVERSIONS = (
    aten.to.dtype_layout,
    aten.to.dtype,
    aten.to.device,
    aten.type_as.default,
)
LINEAR = aten.linear.default


def drop_assertions(gm: fx.GraphModule) -> int:
    """_assert_tensor_metadata(x, dtype, ...) → nothing; dtypes and devices were decided at capture"""
    found = gm.graph.find_nodes(op="call_function", target=aten._assert_tensor_metadata.default)
    for node in found:
        gm.graph.erase_node(node)
    return len(found)


def drop_dropout(gm: fx.GraphModule) -> int:
    """dropout(x, p, train=False) → x"""
    found = [n for n in gm.graph.find_nodes(op="call_function", target=aten.dropout.default) if n.args[2] is False]
    return _bypass(gm, found)


def drop_conversions(gm: fx.GraphModule) -> int:
    """to(x, dtype and device that x has) → x"""
    found = [node for target in CONVERSIONS for node in gm.graph.find_nodes(op="call_function", target=target)]
    return _bypass(gm, [node for node in found if _same_kind(node)])


def drop_whole_slices(gm: fx.GraphModule) -> int:
    """slice(x, dim, 0, end of x) → x"""
    found = gm.graph.find_nodes(op="call_function", target=aten.slice.Tensor)
    whole = [node for node in found if node.args[2:] == (0, LAST) and not node.kwargs]
    return _bypass(gm, whole)


def raise_linear(gm: fx.GraphModule) -> int:
    """aten.linear(x, m.weight, m.bias) → call_module m, an nn.Linear under its original name

    Every call site is rewritten, and those of one weight share one module. A linear whose weight is used by
    anything else (a tied embedding), is computed in the graph, or comes with different biases stays, and is
    noted as kept.
    """
    sites = defaultdict(list)
    for node in gm.graph.find_nodes(op="call_function", target=LINEAR):
        sites[_attribute(node.args[1])].append(node)
    raised = 0
    for path, nodes in sites.items():
        why = _why_not(gm, path, nodes)
        if path is None or why:
            for node in nodes:
                keep(gm, module_name(node, path), str(why))
            continue
        name = path.removesuffix(".weight")
        gm.add_submodule(name, _make_linear(gm, nodes[0]))
        for node in nodes:
            _call_module(gm, node, name)
        raised += len(nodes)
    return raised


def linear_names(gm: fx.GraphModule) -> list[str]:
    """→ the names, in the model, of the linears that are not raised yet, each once"""
    found = gm.graph.find_nodes(op="call_function", target=LINEAR)
    return list(dict.fromkeys(module_name(node, _attribute(node.args[1])) for node in found))


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


def _bypass(gm: fx.GraphModule, nodes: list[fx.Node]) -> int:
    for node in nodes:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        gm.graph.erase_node(node)
    return len(nodes)


def _value(node: Any) -> Any:
    return node.meta.get("val") if isinstance(node, fx.Node) else None


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = _value(node)
    return value.dtype if isinstance(value, Tensor) else None


def _same_kind(node: fx.Node) -> bool:
    before, after = _value(node.args[0]), _value(node)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    copies = node.kwargs.get("copy", False) or any(argument is True for argument in node.args)
    return before.dtype == after.dtype and before.device == after.device and not copies


def _attribute(node: Any) -> str | None:
    """→ the path of the parameter that `node` reads, None for anything else"""
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _read(gm: fx.GraphModule, path: str) -> Any:
    owner, _, leaf = path.rpartition(".")
    return getattr(gm.get_submodule(owner), leaf)


def module_name(node: fx.Node, path: str | None) -> str:
    """→ the linear's name in the model: where it was called from, else where its weight lies"""
    called_from = list(node.meta.get("nn_module_stack", {}).values())
    if called_from and str(called_from[-1][1]).endswith(".Linear"):
        return called_from[-1][0]
    return (path or node.name).removesuffix(".weight")


def _other_uses(gm: fx.GraphModule, path: str) -> list[str]:
    """→ what uses the weight at `path`, under any of its names, as anything but the weight of a linear"""
    pointer, others = _read(gm, path).data_ptr(), set()
    for read in gm.graph.find_nodes(op="get_attr"):
        value = _read(gm, read.target)
        if isinstance(value, Tensor) and value.data_ptr() == pointer:
            others |= {str(user.target) for user in read.users if not _is_weight_only(user, read)}
    return sorted(others)


def _is_weight_only(user: fx.Node, read: fx.Node) -> bool:
    return user.target is LINEAR and [argument is read for argument in user.args[:2]] == [False, True]


def _bias(node: fx.Node) -> Any:
    return node.args[2] if len(node.args) > 2 else None


def _why_not(gm: fx.GraphModule, path: str | None, nodes: list[fx.Node]) -> str | None:
    """→ why the linears `nodes`, all with the weight at `path`, cannot be one nn.Linear; None if they can"""
    if path is None:
        return "its weight is computed in the graph"
    others = _other_uses(gm, path)
    if others:
        return f"its weight is shared with {', '.join(others)}"
    if not path.endswith(".weight"):
        return f"its weight belongs to no module of its own: {path}"
    own = path.removesuffix("weight")
    paths = {str(read.target) for read in gm.graph.find_nodes(op="get_attr")}
    inside = sorted(p for p in paths if p.startswith(own) and p not in (path, f"{own}bias"))
    if inside:
        return f"its module holds more than a linear: {', '.join(inside)}"
    biases = {_attribute(_bias(node)) for node in nodes if _bias(node) is not None}
    if len(biases) > 1 or None in biases or (biases and any(_bias(node) is None for node in nodes)):
        return "its calls differ in their bias, or the bias is computed in the graph"
    return None


def _make_linear(gm: fx.GraphModule, node: fx.Node) -> nn.Linear:
    weight = _read(gm, str(_attribute(node.args[1])))
    bias = _attribute(_bias(node))
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(_read(gm, bias), requires_grad=False)
    return linear.eval()


def _call_module(gm: fx.GraphModule, node: fx.Node, name: str) -> None:
    with gm.graph.inserting_before(node):
        call = gm.graph.call_module(name, (node.args[0],))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    gm.graph.erase_node(node)
