"""A Hugging Face model → one FX graph of ATen operators, for any batch and sequence length."""

import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from targets._pages import let_go
from targets._place import quiet_copies
from targets.base import UsageError
from toolkit.cache import require_same
from toolkit.inputs import KEY, Inputs, example, guard, inputs_of
from toolkit.share import aliases


class CaptureError(RuntimeError):
    """The model could not be captured as one graph, or not for want of memory."""


def capture(model: nn.Module, dtype: torch.dtype = torch.float32) -> fx.GraphModule:
    """→ the model in evaluation mode as a graph, called by keyword as the model is: input_ids,
    attention_mask, and token_type_ids where it has token types, int64 [batch, sequence]; it returns the
    model's own output type.

    The graph computes in `dtype`. It shares the model's weights (where they are of that dtype already), but
    the model itself stays as it was: its mode, its layers, its configuration. The graph is for inference: its
    weights ask for no gradients, and it keeps no cache of past keys, unless cache.with_cache gave the model.
    Raises CaptureError when the model cannot be captured or pins a size, UsageError when it takes no input_ids,
    CacheError when it says something else with a cache.
    """
    inputs = inputs_of(model)
    inputs = replace(inputs, past=tuple(replace(one, dtype=dtype) for one in inputs.past))
    private = _prepare(model, dtype)
    kwargs = example(private, inputs)
    free = {name: dict.fromkeys(_free_sizes(value), Dim.AUTO) for name, value in kwargs.items()}
    try:
        with torch.no_grad():
            program = export(private, (), kwargs, dynamic_shapes=free, strict=False)
    except MemoryError as error:  # which says nothing about the model
        wanted = f"{type(model).__name__} could not be captured"
        raise CaptureError(f"{wanted}: memory ran out; free some, or compute on fewer threads") from error
    except Exception as error:  # whatever the model's own code raises is the reason
        reason = str(error).strip().splitlines() or [type(error).__name__]
        wanted = f"{type(model).__name__} cannot be captured as one graph"
        raise CaptureError(f"{wanted}: {reason[0]}; torch.export has to accept the model first") from error
    _require_free(program, type(model).__name__)
    exported = program.module(check_guards=False)
    graph = fx.GraphModule(exported, exported.graph, class_name=type(model).__name__)
    guard(graph, inputs)
    if inputs.past:
        require_same(graph, private)
    return graph.eval()


def from_export(graph: fx.GraphModule) -> fx.GraphModule:
    """graph: exported by torch.export, with whatever was done to it since, or a checkpoint's as floats → a copy of it
    over the same memory, called by the names of its inputs, int64 [batch, sequence] each, and a cache's if it has one

    Raises UsageError when it has no input input_ids.
    """
    names = tuple(str(node.target) for node in graph.graph.find_nodes(op="placeholder"))
    if "input_ids" not in names:
        raise UsageError(f"a graph with the input input_ids was wanted; its inputs are {', '.join(names) or 'none'}")
    with quiet_copies():
        private, nodes = copy.deepcopy(graph, aliases(graph)), copy.deepcopy(graph.graph)
    adopted = fx.GraphModule(private, nodes, class_name="GraphModule")
    guard(adopted, graph.meta.get(KEY) or Inputs(names, (), None))
    return adopted.eval()


def _prepare(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """→ a copy of the modules over the same weights: evaluation mode, Linear in place of Conv1D, no cache"""

    def shared(tensor: Tensor) -> Tensor:
        plain = tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach()
        if plain.dtype != tensor.dtype:
            let_go(tensor)
        return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain

    # what is not saved with a model (positions, rotary frequencies) is copied as it is, at its own precision
    saved = [value for value in model.state_dict(keep_vars=True).values() if isinstance(value, Tensor)]
    private = copy.deepcopy(model, {id(tensor): shared(tensor) for tensor in saved})
    replace_conv1d(private)
    config: Any = getattr(private, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return private.eval()


def replace_conv1d(model: nn.Module) -> int:
    """Conv1D(x) = x @ weight[K, N] + bias → nn.Linear with weight[N, K], in place. → how many"""
    found = [(name, module) for name, module in model.named_modules() if type(module).__name__ == "Conv1D"]
    for name, module in found:
        weight: Any = module.weight
        inside, out = weight.shape
        linear = nn.Linear(inside, out, bias=module.bias is not None, device="meta")
        linear.weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=False)
        let_go(weight)
        if module.bias is not None:
            linear.bias = cast(nn.Parameter, module.bias)
        model.set_submodule(name, linear)
    return len(found)


def _free_sizes(value: Tensor) -> tuple[int, int]:
    """value: [batch, sequence], or of a cache [batch, heads, past, size] → which sizes may be any"""
    return (0, 2) if value.dim() == 4 else (0, 1)


def _require_free(program: ExportedProgram, name: str) -> None:
    """Raises CaptureError if the capture made a constant of the batch or the sequence length."""
    given = set(program.graph_signature.user_inputs)
    for node in program.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        if node.name in given and any(is_concrete_int(value.shape[size]) for size in _free_sizes(value)):
            got = list(node.meta["val"].shape)
            raise CaptureError(
                f"{name} wants free batch and sequence; {node.name} is fixed to {got}; free it in the model"
            )


__all__ = ["CaptureError", "Inputs", "capture", "from_export", "replace_conv1d"]
