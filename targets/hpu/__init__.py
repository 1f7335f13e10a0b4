"""hpu: Intel Gaudi. On a card its own operators; without one, its FP8 arithmetic on bytes, and float on the CPU.

8 bits mean FP8 E4M3 there: no matrix product of 8-bit integers is documented for it, so there is no precision int.
"""

import torch
from torch import fx

from targets._hardware import cpu_name
from targets._place import place
from targets.base import Execution, Recipe, Target
from targets.hpu import card
from targets.hpu.linear import to_fp8, why_not_fp8

NO_INT = "Gaudi documents no matrix product of 8-bit integers; its 8 bits are FP8: give --precision fp8"


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """nn.Linear → FP8 where the precision is fp8; on a card the whole graph goes there."""
    found = card.find()
    device = torch.device(card.DEVICE) if found else None
    if recipe.precision == "fp8":
        to_fp8(graph, recipe, found.chip if found else card.emulated_chip(), device)
    if found and device:
        graph.recompile()
        place(graph, device, card.wrapped(found, recipe.precision))


def execution(precision: str) -> Execution:
    """Without a card, fp8 is emulated and float runs in PyTorch's CPU kernels; both say so."""
    found = card.find()
    if found:
        return Execution("hpu", True, found.name, "HPU graphs" if found.lazy else "hpu_backend")
    why = "; ".join(card.missing())
    isa = torch.backends.cpu.get_cpu_capability()
    if precision != "fp8":
        return Execution("cpu", False, cpu_name(), isa, f"{precision} runs in PyTorch's CPU kernels: {why}")
    chip = card.emulated_chip()
    why = f"{chip}'s FP8 casts, scales and products are emulated on the CPU: {why}"
    return Execution("hpu-emulated", False, cpu_name(), f"E4M3 of {chip}", why)


# fp8 first: `doctor` speaks of the first
TARGET = Target(
    name="hpu",
    precisions=("fp8", "bf16", "fp"),
    lower=lower,
    execution=execution,
    instead={"int": NO_INT},
    why_not_fp8=why_not_fp8,
)
