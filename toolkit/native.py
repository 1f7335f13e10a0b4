"""A graph that runs outside of PyTorch: exported, handed to the target's own session, called as before."""

from collections.abc import Callable
from dataclasses import replace
from operator import getitem
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, fx, nn

from operators.build import cache_folder
from targets._native import Native
from targets.base import Execution, NotNative, Target, TargetUnavailable
from toolkit import checkpoint
from toolkit.export.errors import ExportError
from toolkit.inputs import KEY, guard
from toolkit.recipe import Recipe


class Outside(nn.Module):
    """int64 tensors in the order of `names` → float tensors in the order of `outputs`, by a session"""

    def __init__(self, run: Callable[[dict[str, Tensor]], dict[str, Tensor]], names: tuple[str, ...],
                 outputs: list[str]) -> None:  # fmt: skip
        super().__init__()
        self.run, self.names, self.outputs = run, names, outputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        found = self.run(dict(zip(self.names, given, strict=True)))
        return tuple(found[name] for name in self.outputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Outside":
        return Outside(self.run, self.names, self.outputs)  # nothing of a session changes, and none can be copied


def go_native(
    graph: fx.GraphModule, recipe: Recipe, target: Target, execution: Execution, strict: bool
) -> tuple[fx.GraphModule | None, Execution]:
    """graph: quantized, not fused; target: one with a `native` → a graph of one call, of the target's session, and how
    that runs; None where the session could not be made, and how the target runs without it, with the reason.

    Raises NotNative instead where strict.
    """
    native: Any = target.native
    try:
        made, note = _outside(graph, recipe, target.name, native, strict)
    except (TargetUnavailable, ExportError) as why:
        if strict:
            raise NotNative(f"target {target.name} does not run natively here: {why}; leave out strict") from why
        return None, native.instead(str(why))
    return made, replace(execution, reason=note)


def _outside(
    graph: fx.GraphModule, recipe: Recipe, target: str, native: Native, strict: bool
) -> tuple[fx.GraphModule, str]:
    from toolkit.export import onnx_file
    from toolkit.export.about import about
    from toolkit.export.program import outputs_of

    name = type(graph).__name__
    cache = cache_folder() / target
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx_file.write(checkpoint.copied(graph), path, about(graph, recipe, name))
        session = native.open(path, cache, strict)
    return _calling(graph, Outside(session.run, graph.meta[KEY].names, outputs_of(graph))), session.note


def _calling(graph: fx.GraphModule, module: Outside) -> fx.GraphModule:
    """→ a graph that is called as `graph`, gives its type of output, and does nothing but call `module`"""
    made, places = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.graph.find_nodes(op="placeholder"):
        places[node] = made.node_copy(node)
    called = made.call_module("session", tuple(places.values()))
    wanted: Any = graph.graph.output_node().args[0]
    for number, node in enumerate(wanted):
        places[node] = made.call_function(getitem, (called, number))
    made.output(fx.node.map_arg(wanted, places.__getitem__))
    made.set_codegen(graph.graph._codegen)
    outside = fx.GraphModule({"session": module}, made, class_name=type(graph).__name__).eval()
    outside.meta = dict(graph.meta)
    guard(outside, graph.meta[KEY])
    return outside
