"""A fused graph → one that runs on the GPU: own modules, floats of 16 bits between them, and all rows as one call."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import fx, nn

from operators.triton.launch import WIDEST
from targets._attention import Attention, AttentionRows, CachedAttention
from targets._fp8 import Fp8Linear
from targets._fused import EmbedNorm, NormRows, Quantize, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import Gate, RowsLinearGate
from targets._linear import QuantizedLinear
from targets._missed import miss
from targets._place import place
from targets._swap import outermost, swap_modules
from targets._weight import WeightLinear
from targets._whole import QuantizeWhole
from targets.base import UsageError
from targets.cuda import linear, norm
from targets.cuda.attention import CudaAttention, CudaAttentionRows, Plan
from targets.cuda.cached import CudaCachedAttention, Step
from targets.cuda.gate import CudaGate
from targets.cuda.packed import split_rows
from targets.cuda.rotary import CudaRotary, swap_rotary
from targets.cuda.steps import cache_of, with_steps
from targets.cuda.weight import CudaWeightLinear

QUANTIZED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    QuantizedLinear: linear.CudaLinear,
    Fp8Linear: linear.CudaLinear,
    RowsLinear: linear.CudaRowsLinear,
    RowsLinearGelu: linear.CudaRowsLinearGelu,
    RowsLinearGate: linear.CudaRowsLinearGate,
    RowsLinearAddNorm: linear.CudaRowsLinearAddNorm,
    Quantize: linear.CudaQuantize,
    QuantizeWhole: linear.CudaQuantizeWhole,
    NormRows: norm.CudaNorm,
    EmbedNorm: norm.CudaEmbedNorm,
    WeightLinear: CudaWeightLinear,
    nn.Linear: linear.FloatLinear,
}
# whose floats come out in `dtype`, and who reads floats of any type
MAKERS = (linear.CudaRowsLinear, linear.CudaRowsLinearAddNorm, norm.CudaNorm, norm.CudaEmbedNorm, CudaAttention,
          CudaCachedAttention, CudaRotary)  # fmt: skip
READERS = (*MAKERS, CudaAttentionRows, linear.CudaQuantize, linear.FloatLinear, CudaGate)


def lower_to(graph: fx.GraphModule, precision: str, device: torch.device) -> None:
    """Swaps, in place, every module that cuda has its own for, and moves what is computed to `device`.

    At fp, bf16 and fp16 that is attention, the rotation before it, and gates: linears, norms and GELU are PyTorch's.
    Raises UsageError for a layer that is too wide.
    """
    plan, step, quantized = Plan(), Step(), precision in ("int", "fp8")
    inner = linear.HALF if quantized and device.type == "cuda" else None
    if quantized:
        require_widths(graph)
        swap_modules(graph, QUANTIZED)
    attention = {Attention: CudaAttention, AttentionRows: CudaAttentionRows}
    swap_modules(graph, {kind: partial(made, plan=plan, inner=inner) for kind, made in attention.items()})
    swap_modules(graph, {CachedAttention: partial(CudaCachedAttention, step=step)})
    # what two halves make together may be more than 16 bits hold
    swap_modules(graph, {Gate: partial(CudaGate, dtype=torch.float32 if quantized else None)})
    swap_rotary(graph)
    if quantized:
        halve(graph)
    rest = split_rows(graph, plan, device)
    uncaptured = cache_of(graph)
    if isinstance(uncaptured, str):
        miss(graph, "steps", type(graph).__name__, uncaptured)
    graph.recompile()
    place(graph, rest, partial(with_steps, device=rest))


def require_widths(graph: fx.GraphModule) -> None:
    """Raises UsageError for a module whose rows are wider than a program of the row kernels holds."""
    for name, module in outermost(graph):
        columns = max(_rows_of(module), default=0)
        if columns > WIDEST:
            linear = isinstance(getattr(module, "linear", module), QuantizedLinear)
            todo = "keep it in float by a recipe, or use another target" if linear else "use another target"
            raise UsageError(f"target cuda quantizes rows of at most {WIDEST} columns; {name} has {columns}; {todo}")


def _rows_of(module: nn.Module) -> list[int]:
    """→ the widths of the rows that `module` makes or reads whole"""
    widths = [len(module.gamma)] if isinstance(module, NormRows) else []
    linear = getattr(module, "linear", module)
    if isinstance(linear, QuantizedLinear):
        widths.append(linear.in_features)
    if isinstance(module, RowsLinearGate):
        widths.append(module.linear.out_features // 2)
    if isinstance(module, RowsLinearGelu) and (module.activation.scale is None or module.activation.rotation):
        widths.append(module.linear.out_features)  # which a given scale alone does not want
    return widths


def halve(graph: fx.GraphModule) -> int:
    """Floats of 16 bits between our own modules: those of MAKERS that only READERS read, at every call; but for precise
    attention. → how many

    Not the sums that norms keep: they are the residual stream, to which layer after layer adds. A few of its numbers
    grow to thousands, in some models beyond what 16 bits hold, and what is rounded off would add up.
    """
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.graph.find_nodes(op="call_module"):
        calls.setdefault(node.target, []).append(node)
    found = 0
    for name, nodes in calls.items():
        module = cast(Any, graph.get_submodule(name))
        if isinstance(module, MAKERS) and not isinstance(module, CudaAttentionRows):
            ours = all(_reads_any(graph, user) for node in nodes for user in _readers(node))
            ours = ours and not getattr(module, "keeps_sum", False) and not _is_precise(module)
            module.dtype = linear.HALF if ours else torch.float32
            found += ours
    return found


def _readers(node: fx.Node) -> list[fx.Node]:
    """→ what reads the floats of `node`, the first of its results where it has two"""
    if any(user.op == "call_function" and "getitem" in str(user.target) for user in node.users):
        parts = [user for user in node.users if user.args[1:] == (0,)]
        return [user for part in parts for user in part.users]
    return list(node.users)


def _reads_any(graph: fx.GraphModule, user: fx.Node) -> bool:
    if user.op != "call_module":
        return False
    module = graph.get_submodule(str(user.target))
    if isinstance(module, CudaRotary):  # which gives as much precision as it is given
        return all(_reads_any(graph, reader) for reader in _readers(user))
    return isinstance(module, READERS) and not _is_precise(module)


def _is_precise(module: nn.Module) -> bool:
    """Whether it is attention that must not round float32"""
    return bool(getattr(module, "precise", False))
