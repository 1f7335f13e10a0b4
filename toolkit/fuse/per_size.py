"""What sizes and parameters alone decide, computed once for each size: distances between tokens, windows, rotations."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from targets._memory import holds_tensor, sources
from toolkit.fuse.decided import above, is_function, operator_name, written_to
from toolkit.fuse.exposed import Exposed
from toolkit.fuse.kept import BITS, PerSize
from toolkit.fuse.matching import add_module, aten, parameter
from toolkit.inputs import KEY, Inputs

SIZE = aten.sym_size.int
LARGEST = 1 << 19  # bytes of a parameter: at every call it is compared with what it was
LEAST = 3  # operators that compute anything; fewer are as fast as looking for what they made
# to make one of these is no work
MADE = {"arange", "full", "full_like", "lift_fresh_copy", "new_full", "new_ones", "new_zeros", "ones", "ones_like",
        "scalar_tensor", "zeros", "zeros_like"}  # fmt: skip


def keep_per_size(gm: fx.GraphModule) -> int:
    """f(sizes, parameters) → PerSize(f)(sizes, parameters), for all of the graph that depends on nothing but sizes of
    inputs, and small parameters; where f is expanded to the batch and that made contiguous, f is first

    Not what depends on the batch: tables would be kept as often as there are sequences. Nor what anything writes to,
    or the graph returns. With a cache every token has sizes of its own, and all stays. → how many modules, 0 or 1
    """
    inputs = gm.meta.get(KEY)
    if isinstance(inputs, Inputs) and inputs.past:
        return 0
    inside, results = _parts(_taken(gm))
    if sum(map(_computes, inside)) < LEAST:
        return 0
    if _made_whole(gm, inside):
        inside, results = _parts(_taken(gm))
    _replace(gm, inside, results)
    return 1


def _taken(gm: fx.GraphModule) -> list[fx.Node]:
    """→ the nodes whose value sizes and parameters decide, in order"""
    exposed, written = Exposed(), written_to(gm)
    numbers, taken = set[fx.Node](), list[fx.Node]()
    known = set[fx.Node]()  # numbers, parameters, and what is taken
    for node in gm.graph.nodes:
        if _is_number(node, numbers):
            numbers.add(node)
        elif node.op == "get_attr":
            if node.target in written or not _is_small(parameter(gm, node)):
                continue
        elif known.issuperset(node.all_input_nodes) and is_function(node) and not exposed(node):
            taken.append(node)
        else:
            continue
        known.add(node)
    return taken


def _parts(taken: list[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """→ those of the nodes that are for a result, and the results: what others read, but for views of parameters"""
    inside = set(taken)
    read = [node for node in taken if not inside.issuperset(node.users)]
    behind = {node: above(node, inside) for node in read}
    results = [node for node in read if not all(map(_is_view, behind[node]))]
    needed = set[fx.Node]().union(*(behind[node] for node in results))
    return [node for node in taken if node in needed], results


def _is_number(node: fx.Node, numbers: set[fx.Node]) -> bool:
    """Whether `node` is a size of an input, not that of the batch, or made of such"""
    if node.op != "call_function" or not node.all_input_nodes:
        return False
    if node.target is SIZE:
        return node.all_input_nodes[0].op == "placeholder" and bool(node.args[1] != 0)
    plain = getattr(node.target, "__module__", None) in ("_operator", "math") or node.target in (
        torch.sym_max, torch.sym_min, torch.sym_int, torch.sym_float)  # fmt: skip
    return plain and numbers.issuperset(node.all_input_nodes)


def _is_small(held: Tensor | None) -> bool:
    if held is None or not held.is_cpu or held.layout is not torch.strided or not held.is_contiguous():
        return False
    return held.nbytes <= LARGEST and held.element_size() in BITS


def _is_view(node: fx.Node) -> bool:
    return operator_name(node) not in MADE and not _computes(node)


def _computes(node: fx.Node) -> bool:
    """Whether `node` computes numbers of a tensor, and is no view"""
    return operator_name(node) not in MADE and holds_tensor(node) and not sources(node)


def _made_whole(gm: fx.GraphModule, inside: list[fx.Node]) -> int:
    """contiguous(expand(f, to the batch)) → contiguous(expand(contiguous(f), to the batch)), where f is inside: of one
    sequence the first is then nothing to do. → how many"""
    done = 0
    for node in gm.graph.find_nodes(op="call_function", target=aten.contiguous.default):
        wide: Any = node.args[0]
        if wide.target is not aten.expand.default or len(node.args) > 1 or node.kwargs:
            continue
        if wide.args[0] in inside and wide not in inside:
            with gm.graph.inserting_before(wide):
                whole = gm.graph.call_function(aten.contiguous.default, (wide.args[0],))
                again = gm.graph.call_function(aten.expand.default, (whole, *wide.args[1:]))
            whole.meta.update(wide.args[0].meta)
            again.meta.update(wide.meta)
            node.args = (again,)
            if not wide.users:
                gm.graph.erase_node(wide)
            done += 1
    return done


def _replace(gm: fx.GraphModule, inside: list[fx.Node], results: list[fx.Node]) -> None:
    """inside: the nodes that `results`, some of them, are computed from. One module takes their place, called first."""
    given = {source: None for node in inside for source in node.all_input_nodes if source not in inside}
    sizes = [node for node in given if node.op != "get_attr"]
    parameters = {node.target: node for node in given if node.op == "get_attr"}
    name = add_module(gm, "per_size", PerSize(_graph_of(inside, sizes, parameters, results)))
    last = list(gm.graph.find_nodes(op="placeholder"))[-1]
    sources = _sources([*sizes, *parameters.values()])
    for node in [one for one in gm.graph.nodes if one in sources]:
        last.append(node)
        last = node
    with gm.graph.inserting_after(last):
        call = gm.graph.call_module(name, (sizes, list(parameters.values())))
    for number, node in reversed(list(enumerate(results))):
        with gm.graph.inserting_after(call):
            part = gm.graph.call_function(operator.getitem, (call, number))
        part.meta.update(node.meta)
        node.replace_all_uses_with(part)
    for node in reversed(inside):
        if not node.users:  # cleaning leaves what works in place
            gm.graph.erase_node(node)


def _sources(nodes: list[fx.Node]) -> set[fx.Node]:
    """→ the nodes and all that they are computed from, but inputs"""
    found, todo = set[fx.Node](), nodes
    while todo:
        todo = [node for node in todo if node.op != "placeholder" and node not in found]
        found.update(todo)
        todo = [source for node in todo for source in node.all_input_nodes]
    return found


def _graph_of(
    inside: list[fx.Node], sizes: list[fx.Node], parameters: dict[Any, fx.Node], results: list[fx.Node]
) -> fx.GraphModule:
    """→ a graph that is called with the sizes, then the parameters"""
    graph, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for number, size in enumerate(sizes):
        made[size] = graph.placeholder(f"size_{number}")
    held = {name: graph.placeholder(f"parameter_{number}") for number, name in enumerate(parameters)}
    for node in inside:
        made.update({source: held[source.target] for source in node.all_input_nodes if source.target in held})
        made[node] = graph.node_copy(node, made.__getitem__)
        made[node].meta = {}
    graph.output(tuple(made[node] for node in results))
    return fx.GraphModule({}, graph, class_name="PerSizeGraph").eval()
