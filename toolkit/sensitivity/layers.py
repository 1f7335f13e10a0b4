"""Each linear by itself: the error of its own output, what of it is left at the model's outputs, its share of work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from toolkit.fuse import NAMES
from toolkit.quantize import linears_of
from toolkit.report import report_of
from toolkit.sensitivity.fidelity import Fidelity, at_real, real_outputs
from toolkit.sensitivity.variants import Variants
from toolkit.terms import REST

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class LayerCost:
    """name: of the linear; share: its multiply-adds of those of all linears, 0 to 1; sqnr_db, cosine: its own output,
    quantized, against float, on float inputs; logits_db: SQNR of the model's outputs when it alone is quantized;
    noise: what of |error|² / |signal|² there it adds to the target's own rounding; spared_db: SQNR of the outputs when
    it alone is kept in float."""

    name: str
    share: float
    sqnr_db: float
    cosine: float
    logits_db: float
    noise: float
    spared_db: float


@torch.inference_mode()
def measure_layers(
    variants: Variants, batches: Sequence[Batch], progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[LayerCost], float, float]:
    """→ one LayerCost a linear that the recipe quantizes, in the model's order; and the SQNR, in dB, of the model's
    outputs with all of them quantized, and with none: what else the target rounds, such as its attention.

    batches: as the model takes them, with attention_mask. `progress` is told (graphs run, graphs in all).
    """
    own, work = own_outputs(variants, batches)
    expected = [real_outputs(variants.graph(**batch), batch["attention_mask"]) for batch in batches]
    whole, none = (logits_of(graph, batches, expected) for graph in (variants.whole(), variants.none()))
    costs, total = [], sum(work.values())
    for done, name in enumerate(variants.names):
        alone = logits_of(variants.alone(name), batches, expected)
        spared = logits_of(variants.without([name]), batches, expected)
        mine, noise = own[name], max(alone.noise - none.noise, 0.0)
        costs.append(
            LayerCost(name, work[name] / total, mine.sqnr_db, mine.cosine, alone.sqnr_db, noise, spared.sqnr_db)
        )
        progress(done + 1, len(variants.names))
    return costs, whole.sqnr_db, none.sqnr_db


def own_outputs(variants: Variants, batches: Sequence[Batch]) -> tuple[dict[str, Fidelity], dict[str, int]]:
    """→ by name: how near each linear's output is to float when it is quantized, on the inputs that it has in the
    float graph; and the multiply-adds of every linear of the graph, padding left out."""
    linears = linears_of(variants.graph)
    quantized = unfused(variants)
    found = {name: Fidelity() for name in variants.names}
    work = dict.fromkeys(linears, 0)
    mask = torch.ones(0)

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
            x = at_real(args[0], mask)
            work[name] += x.numel() * y.shape[-1]
            if name in found:
                found[name].add(at_real(y, mask), _output(quantized, name, x))

        return hook

    handles = [linear.register_forward_hook(watch(name)) for name, linear in linears.items()]
    try:
        for batch in batches:
            mask = batch["attention_mask"]
            variants.graph(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return found, work


def _output(graph: fx.GraphModule, name: str, x: Tensor) -> Tensor:
    """→ what the quantized linear `name` of a lowered graph and its second terms, if it has any, make of x"""
    linear: Any = graph.get_submodule(name)
    home, x = x.device, x.to(linear.scale.device)
    y = linear(x)
    for term in report_of(graph).terms.get(name, ()):
        rest = torch.ops.opswap.rounding_error(x, *linear.levels) if REST in term else x
        y = y + graph.get_submodule(term)(rest)
    return y.to(home)


def unfused(variants: Variants) -> fx.GraphModule:
    """→ the graph as the recipe says with its linears under their own names: nothing is fused"""
    return variants.finished(replace(variants.recipe, without=NAMES))


def logits_of(graph: fx.GraphModule, batches: Sequence[Batch], expected: Sequence[Tensor]) -> Fidelity:
    """→ how near the outputs of `graph` are to `expected`, at real tokens"""
    found = Fidelity()
    for batch, want in zip(batches, expected, strict=True):
        found.add(want, real_outputs(graph(**batch), batch["attention_mask"]))
    return found
