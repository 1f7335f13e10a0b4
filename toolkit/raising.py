"""aten.linear → nn.Linear under its own name: plain functions (GraphModule) → how many. Each docstring is the rewrite.

The order is decided in pipeline.py, and the runner there cleans up after each.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from toolkit.report import keep

aten = torch.ops.aten
LINEAR, EMBEDDING = aten.linear.default, aten.embedding.default


def untie_heads(gm: fx.GraphModule) -> int:
    """embedding(W, ids), linear(x, W, b) → embedding(W, ids), call_module head(x), an nn.Linear of the head's own name

    Both stay over W's memory, each by the name of its own module: what is put in the place of the linear changes no
    embedding. So the head of a language model, in float over half of a token's time, can have integers of its own,
    which come on top of the float table, a quarter of its bytes. It is rounded as all others are: activations in 8
    bits cost a trained GPT-2's logits 2 dB more than the integers of the weight alone, and its loss nothing. A weight
    with other users, or whose modules are not known by name, is left to raise_linear.
    """
    untied, users = 0, _other_users(gm)
    for path, nodes in _sites(gm).items():
        head, table = _head_and_table(nodes, users(path))
        if path is None or head is None or table is None or _why_not_one(gm, head, path, nodes):
            continue
        for read in gm.graph.find_nodes(op="get_attr", target=path):
            _read_instead(gm, read, [user for user in read.users if user.target is EMBEDDING], f"{table}.weight")
        _raise(gm, head, nodes)
        untied += len(nodes)
    return untied


def raise_linear(gm: fx.GraphModule) -> int:
    """aten.linear(x, m.weight, m.bias) → call_module m, an nn.Linear under its original name

    Every call site is rewritten, and those of one weight share one module. A linear whose weight or bias is used by
    anything else (a tied embedding), is computed in the graph, or comes with different biases stays, and is
    noted as kept.
    """
    raised, users = 0, _other_users(gm)
    for path, nodes in _sites(gm).items():
        name = (path or "").removesuffix(".weight")
        why = _shared(users(path)) or _why_not_one(gm, name, path, nodes)
        if why:
            for node in nodes:
                keep(gm, module_name(node, path), why)
            continue
        _raise(gm, name, nodes)
        raised += len(nodes)
    return raised


def linear_names(gm: fx.GraphModule) -> list[str]:
    """→ the names, in the model, of the linears that are not raised yet, each once"""
    found = gm.graph.find_nodes(op="call_function", target=LINEAR)
    return list(dict.fromkeys(module_name(node, _attribute(node.args[1])) for node in found))


def module_name(node: fx.Node, path: str | None) -> str:
    """→ the linear's name in the model: where it was called from, else where its weight lies"""
    return _called_from(node) or (path or node.name).removesuffix(".weight")


def _called_from(node: fx.Node) -> str | None:
    """→ the name, in the model, of the nn.Linear or nn.Embedding that `node` is a call of, None for any other call"""
    called_from = list(node.meta.get("nn_module_stack", {}).values())
    one = called_from and str(called_from[-1][1]).endswith((".Linear", ".Embedding"))
    return called_from[-1][0] if one else None


def _sites(gm: fx.GraphModule) -> dict[str | None, list[fx.Node]]:
    """→ the linears that are not raised yet, by the path of their weight, None where the graph computes it"""
    sites: dict[str | None, list[fx.Node]] = defaultdict(list)
    for node in gm.graph.find_nodes(op="call_function", target=LINEAR):
        sites[_attribute(node.args[1])].append(node)
    return sites


def _attribute(node: Any) -> str | None:
    """→ the path of the parameter that `node` reads, None for anything else"""
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _read(gm: fx.GraphModule, path: str) -> Any:
    owner, _, leaf = path.rpartition(".")
    return getattr(gm.get_submodule(owner), leaf)


def _other_users(gm: fx.GraphModule) -> Callable[[str | None], list[fx.Node]]:
    """→ of a path: what uses the weight there, under any of its names, as anything but the weight of a linear"""
    others: dict[int, list[fx.Node]] = defaultdict(list)
    for read in gm.graph.find_nodes(op="get_attr"):
        value = _read(gm, read.target)
        if isinstance(value, Tensor):
            others[value.data_ptr()] += [user for user in read.users if not _is_weight_only(user, read)]
    return lambda path: others.get(_read(gm, path).data_ptr(), []) if path else []


def _is_weight_only(user: fx.Node, read: fx.Node) -> bool:
    return user.target is LINEAR and [argument is read for argument in user.args[:2]] == [False, True]


def _head_and_table(nodes: list[fx.Node], others: list[fx.Node]) -> tuple[str | None, str | None]:
    """nodes: the linears of a weight; others: what else uses it → the names of the one nn.Linear and the one
    nn.Embedding that alone have it, else None"""
    heads, tables = ({_called_from(node) for node in ones} for ones in (nodes, others))
    tied = all(user.target is EMBEDDING for user in others) and len(heads) == len(tables) == 1 and heads != tables
    return (heads.pop(), tables.pop()) if tied else (None, None)


def _read_instead(gm: fx.GraphModule, read: fx.Node, users: list[fx.Node], name: str) -> None:
    """`users` of what `read` reads → they read the same memory by another name of it"""
    owner, _, leaf = name.rpartition(".")
    if owner not in dict(gm.named_modules()):
        gm.add_submodule(owner, nn.Module())
    gm.get_submodule(owner).register_parameter(leaf, nn.Parameter(_read(gm, str(read.target)), requires_grad=False))
    with gm.graph.inserting_before(read):
        again = gm.graph.get_attr(name)
    again.meta = dict(read.meta)
    for user in users:
        user.replace_input_with(read, again)


def _bias(node: fx.Node) -> Any:
    return node.args[2] if len(node.args) > 2 else None


def _shared(others: list[fx.Node]) -> str | None:
    names = sorted({str(user.target) for user in others})
    return f"its weight is shared with {', '.join(names)}" if names else None


def _why_not_one(gm: fx.GraphModule, name: str, path: str | None, nodes: list[fx.Node]) -> str | None:
    """→ why the linears `nodes`, all with the weight at `path`, cannot be one nn.Linear `name`; None if they can"""
    if path is None:
        return "its weight is computed in the graph"
    if not path.endswith(".weight"):
        return f"its weight belongs to no module of its own: {path}"
    paths = {str(read.target) for read in gm.graph.find_nodes(op="get_attr")}
    biases = {_attribute(_bias(node)) for node in nodes if _bias(node) is not None}
    inside = sorted(p for p in paths if p.startswith(f"{name}.") and p not in (path, *biases))
    if inside:
        return f"its module holds more than a linear: {', '.join(inside)}"
    others = _readers(gm, f"{name}.bias") - {*nodes}
    if others:  # what is put in the linear's place may have another bias
        return f"its bias is shared with {', '.join(sorted({str(user.target) for user in others}))}"
    if len(biases) > 1 or None in biases or (biases and any(_bias(node) is None for node in nodes)):
        return "its calls differ in their bias, or the bias is computed in the graph"
    return None


def _readers(gm: fx.GraphModule, path: str) -> set[fx.Node]:
    """→ all that reads the parameter at `path`"""
    return {user for read in gm.graph.find_nodes(op="get_attr", target=path) for user in read.users}


def _raise(gm: fx.GraphModule, name: str, nodes: list[fx.Node]) -> None:
    """nodes: linears of one weight and bias → calls of one nn.Linear `name`, over the same memory"""
    weight, bias = _read(gm, str(_attribute(nodes[0].args[1]))), _attribute(_bias(nodes[0]))
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(_read(gm, bias), requires_grad=False)
    gm.add_submodule(name, linear.eval())
    for node in nodes:
        with gm.graph.inserting_before(node):
            call = gm.graph.call_module(name, (node.args[0],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        gm.graph.erase_node(node)
