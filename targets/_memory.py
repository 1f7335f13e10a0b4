"""What the nodes of a graph do to memory: which inputs a node writes to, and which its result may lie in.

All that moves, keeps or drops reads asks here. Of what is not known the answer is the one that forbids more.
"""

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

aten = torch.ops.aten
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
# Operators made of others: their schemas don't say that they may return what they are given, as einsum, type_as,
# atleast_1d, dropout and conj_physical do. Of those, by name, what gives memory of its own.
FRESH = {"__and__", "__or__", "__xor__", "clip", "conv1d", "isfinite", "layer_norm", "linear", "matmul", "max",
         "min", "relu6", "rms_norm", "scaled_dot_product_attention", "selu", "softmax", "square", "true_divide",
         "where"}  # fmt: skip
UNSAID = {"_unsafe_view", "set_", "unsafe_split", "unsafe_split_with_sizes"}  # others whose schemas don't say it
RESHAPING = {"squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_"}  # these write no element
DETACH = aten.detach_.default  # in place, but of a tensor's gradients: neither numbers nor shape change
VIEWS = {  # always; reshape or contiguous may be copies
    aten.select.int,
    aten.slice.Tensor,
    aten.view.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.permute.default,
    aten.expand.default,
    aten.detach.default,
}
GUARDS = ("torch.export._unlift", "GuardsFn")  # compares sizes; PyTorch's own, and named so that none need have it
OURS = ("targets.", "toolkit.")  # where the modules are whose results are new, but of those with the attribute `grows`


def written_by(node: fx.Node) -> list[fx.Node]:
    """→ the inputs of `node` whose numbers or shape it changes, or may"""
    if node.op == "call_method":  # PyTorch's names say it
        return node.all_input_nodes if str(node.target).endswith("_") else []
    if node.op == "call_module":
        return [] if _makes_new(node) else node.all_input_nodes
    if node.op != "call_function" or node.target in (operator.getitem, DETACH):
        return []
    if isinstance(node.target, OpOverload):
        return _nodes(value for alias, value in _aliases(node) if alias.is_write)
    if isinstance(node.target, HigherOrderOperator) and _keeps_what_it_is_given(node):
        return []
    return [source for source in node.all_input_nodes if holds_tensor(source)]


def keeps_elements(node: fx.Node) -> bool:
    """Whether `node` works in place, and writes no element: the shape of what it is given changes, or nothing"""
    return isinstance(node.target, OpOverload) and (node.target is DETACH or name_of(node.target) in RESHAPING)


def sources(node: fx.Node) -> list[fx.Node]:
    """→ the inputs of `node` whose memory its result may share"""
    if node.op == "call_module":
        return [] if _makes_new(node) else node.all_input_nodes
    if node.op not in ("call_function", "call_method") or not holds_tensor(node):
        return []
    if not isinstance(node.target, OpOverload) or name_of(node.target) in UNSAID:
        return node.all_input_nodes  # a part of a tuple, for one
    if any(argument.alias_info is not None for argument in node.target._schema.arguments):
        return _nodes(value for _, value in _aliases(node))
    return node.all_input_nodes if _may_be_anything(node.target) else []


def sharing(*nodes: fx.Node) -> set[fx.Node]:
    """→ `nodes`, and all that may lie in the same memory as one of them"""
    found, todo = {*nodes}, [*nodes]
    while todo:
        here = todo.pop()
        views = (user for user in here.users if here in sources(user))
        fresh = {*sources(here), *views, *_held_together(here)} - found
        found |= fresh
        todo += fresh
    return found


def unchanged(nodes: Iterable[fx.Node], first: fx.Node, last: fx.Node) -> bool:
    """Whether nothing from `first` on and before `last` writes to what may share memory with any of `nodes`"""
    group: set[fx.Node] | None = None
    here = first
    while here is not last:
        written = written_by(here)
        if written:
            group = sharing(*nodes) if group is None else group
            if not group.isdisjoint(written):
                return False
        here = here.next
    return True


def holds_tensor(node: fx.Node) -> bool:
    """Whether the value of `node` may be a tensor, or have one in it: the capture notes what it is"""
    values = pytree.tree_leaves(node.meta.get("val"))
    return "val" not in node.meta or any(isinstance(value, Tensor) for value in values)


def name_of(target: OpOverload) -> str:
    return str(target.overloadpacket.__name__)


def _aliases(node: fx.Node) -> list[tuple[Any, Any]]:
    """→ of what `node`, a call of an operator, is given, all that its schema says something about, and what it says"""
    target: Any = node.target
    arguments = target._schema.arguments
    given = {**dict(zip((one.name for one in arguments), node.args, strict=False)), **node.kwargs}
    return [(one.alias_info, given.get(one.name)) for one in arguments if one.alias_info is not None]


def _nodes(values: Iterable[Any]) -> list[fx.Node]:
    return [one for one in pytree.tree_leaves(list(values)) if isinstance(one, fx.Node)]


def _may_be_anything(target: OpOverload) -> bool:
    """Whether the result of an operator whose schema says nothing may be what it is given"""
    if not torch._C._dispatch_has_kernel(target.name()):  # of TorchScript alone
        return True
    return target.has_kernel_for_dispatch_key(COMPOSITE) and name_of(target) not in FRESH


def _makes_new(node: fx.Node) -> bool:
    """Whether the module that `node` calls writes to nothing, and gives memory of its own, or nothing"""
    root = node.graph.owning_module
    module = None if root is None else root.get_submodule(str(node.target))
    ours = type(module).__module__.startswith(OURS) and not getattr(module, "grows", False)
    named = type(module).__module__, type(module).__qualname__
    return ours or type(module) is nn.Linear or named == GUARDS


def _keeps_what_it_is_given(node: fx.Node) -> bool:
    """Whether `node` runs graphs, as torch.no_grad() or autocast in a model is exported, that write to nothing of
    others"""
    held = [_held(source) for source in node.all_input_nodes if source.op == "get_attr"]
    bodies = [one for one in held if isinstance(one, fx.GraphModule)]
    changed = [one for body in bodies for inner in body.graph.nodes for one in sharing(*written_by(inner))]
    return bool(bodies) and not any(one.op in ("placeholder", "get_attr") for one in changed)


def _held_together(node: fx.Node) -> list[fx.Node]:
    """→ of a parameter or buffer, all nodes that read any over the same memory; of other nodes none"""
    if node.op != "get_attr":
        return []
    memory = _memory_of(node)
    return [one for one in node.graph.find_nodes(op="get_attr") if _memory_of(one) == memory]


def _memory_of(node: fx.Node) -> Any:
    value = _held(node)
    return StorageWeakRef(value.untyped_storage()).cdata if isinstance(value, Tensor) else node.target


def _held(node: fx.Node) -> Any:
    """→ the parameter, buffer or module that `node` reads; None where its graph belongs to no module yet"""
    root = node.graph.owning_module
    return None if root is None else operator.attrgetter(str(node.target))(root)
