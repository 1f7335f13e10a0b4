"""Every linear's input on its way through the float graph, batch after batch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from targets.base import NotFinite
from toolkit.calibrate.histogram import Histogram
from toolkit.calibrate.state import Batch, flat, nested
from toolkit.inputs import MASK


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


class Histograms:
    """Those of the inputs of the linears `names` of a float graph, by name."""

    def __init__(self, graph: fx.GraphModule, names: Iterable[str]) -> None:
        self.graph, self.found = graph, {name: Histogram() for name in names}

    @torch.no_grad()
    def see(self, batch: Batch) -> None:
        """Calls the graph with it. Raises ValueError, with the linear's name, for values that are not finite."""
        with _watched(self.graph, self.found, batch.get(MASK)):
            self.graph(**batch)

    def state(self) -> dict[str, Tensor]:
        return flat({name: histogram.state() for name, histogram in self.found.items()})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        parts = nested(state)
        self.found = {name: Histogram.from_state(parts[name]) for name in self.found}


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
