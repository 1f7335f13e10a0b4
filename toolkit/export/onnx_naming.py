"""Names for people in an ONNX model: nodes and weights by the module they belong to, free sizes by what they are."""

import ast
from collections import Counter
from typing import Any

SCOPES = "pkg.torch.onnx.name_scopes"  # where torch.onnx notes the modules that a node comes from, and its own name
SIZES = ("batch", "sequence")


def name_nodes(model: Any, outputs: list[str]) -> None:
    """model: onnx_ir.Model. Every node → "<module>/<operator>" with a number from the second on, its results by it;
    what torch.onnx noted on them (source lines, paths) is removed."""
    used: Counter[str] = Counter()
    last = "graph"
    for node in model.graph:
        scope = last = _scope(node.metadata_props.get(SCOPES)) or last
        used[f"{scope}/{node.op_type}"] += 1
        count = used[f"{scope}/{node.op_type}"]
        node.name = f"{scope}/{node.op_type}" + (f"_{count}" if count > 1 else "")
        node.metadata_props.clear()
        for number, value in enumerate(node.outputs):
            value.metadata_props.clear()
            value.name = f"{node.name}:{number}"
    for name, value in zip(outputs, model.graph.outputs, strict=True):
        value.name = name
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def name_sizes(model: Any) -> None:
    """The first two sizes of the inputs are called batch and sequence, wherever they occur."""
    names: dict[Any, str] = {}
    for value in model.graph.inputs:
        names |= {str(size): name for size, name in zip(value.shape, SIZES, strict=False)}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if str(size) in names and not isinstance(size, int):
                value.shape[axis] = names[str(size)]


def _scope(noted: str | None) -> str | None:
    """→ the innermost module; None for a node that belongs to none"""
    modules = [str(name) for name in ast.literal_eval(noted)[:-1]] if noted else []
    known = [name for name in modules if name and not name.startswith("_empty_nn_module_stack")]
    return known[-1] if known else None
