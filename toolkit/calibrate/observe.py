"""Every linear's input on its way through the float graph, batch after batch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from targets.base import NotFinite
from toolkit.calibrate.histogram import Histogram

Batch = Mapping[str, Tensor]
MASK = "attention_mask"


def readers(graph: fx.GraphModule, names: Iterable[str]) -> list[tuple[str, ...]]:
    """names: of linears → those that read the same tensors at every call, together: they are observed once"""
    reads = defaultdict(list)
    for node in graph.graph.find_nodes(op="call_module"):
        reads[str(node.target)].append(node.args[0])
    groups = defaultdict(list)
    for name in names:
        groups[tuple(reads[name])].append(name)
    return [tuple(group) for group in groups.values()]


def real_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [..., K], mask [B, S] → its rows at the real tokens [T, K]; all of them where x has no row for each token"""
    if mask is not None and x.shape[:-1] in (mask.shape, mask.flatten().shape):
        return x[mask.bool().view(x.shape[:-1])]
    return x.reshape(-1, x.shape[-1])


@torch.no_grad()
def observe(graph: fx.GraphModule, histograms: Mapping[str, Histogram], batches: Iterable[Batch]) -> Iterator[int]:
    """Calls `graph` with each batch; the input of each linear that `histograms` names is added to its histogram.

    After each batch: → its real tokens. Raises ValueError, with the linear's name, for values that are not finite.
    """
    for batch in batches:
        mask = batch.get(MASK)
        with _watched(graph, histograms, mask):
            graph(**batch)
        yield int(mask.count_nonzero()) if mask is not None else batch["input_ids"].numel()


@contextmanager
def _watched(graph: fx.GraphModule, histograms: Mapping[str, Histogram], mask: Tensor | None) -> Iterator[None]:
    def watch(name: str, histogram: Histogram) -> torch.utils.hooks.RemovableHandle:
        def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            try:
                histogram.add(real_rows(args[0], mask).to(torch.float32))
            except ValueError as error:
                raise NotFinite(f"input of linear {name}: {error}") from error

        return graph.get_submodule(name).register_forward_pre_hook(see)

    handles = [watch(name, histogram) for name, histogram in histograms.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
