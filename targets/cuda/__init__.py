"""cuda: NVIDIA GPUs, Ampere and newer. Kernels in Triton (operators/triton), attention and floats by PyTorch."""

import torch
from torch import fx

from targets._hardware import cpu_name
from targets._packed import FUSIONS
from targets.base import Execution, Recipe, Target, TargetUnavailable
from targets.cuda import device


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Each module → cuda's own; then all from the ids of the real tokens to their logits runs as one on the GPU."""
    from targets.cuda.lowering import lower_to  # Triton is imported now, and not before

    lower_to(graph, recipe.precision, device.device())


def execution(precision: str) -> Execution:
    """Raises TargetUnavailable for fp8 on a GPU that has no units for it."""
    why = device.why_not()
    if why:
        return Execution("none", False, "none", "none", why)
    if device.interpreted():
        reason = "no GPU is used: Triton's interpreter runs the kernels on the CPU, number for number"
        return Execution("cuda-interpreted", False, cpu_name(), "interpreter", reason)
    major, minor = device.capability()
    if precision == "fp8" and (major, minor) < device.OLDEST_FP8:
        raise TargetUnavailable(f"fp8 wants compute capability 8.9 or newer; this GPU has {major}.{minor}; use int")
    return Execution("cuda", True, torch.cuda.get_device_name(), f"sm_{major}{minor}", _untuned(precision))


def _untuned(precision: str) -> str | None:
    """→ a line where the kernels' tiles were never measured on such a GPU, None where they were or none are used"""
    from operators.triton import tiles

    if precision not in ("int", "fp8") or tiles.is_tuned(tiles.chip()):
        return None
    return f"the tiles for {tiles.chip()} are untuned; python -m benchmarks.tune_cuda measures them"


TARGET = Target(
    name="cuda",
    precisions=("fp", "bf16", "fp16", "int", "fp8"),
    lower=lower,
    execution=execution,
    # PyTorch's attention is fast on a GPU, wherever its heads lie; whether a parameter changed, the CPU would wait for
    fusions=frozenset(FUSIONS) - {"heads", "biased", "disentangled", "per_size"},
    fused=("fp", "bf16", "fp16", "int", "fp8"),
    quantized=("int", "fp8"),
    schemes=("dynamic", "static", "weight"),
    unavailable=device.why_not,
    kept=torch.float16,  # as the floats between its kernels, which have 11 bits of precision
)
