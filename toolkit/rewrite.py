"""Running passes over a graph, and keeping it clean between them."""

import logging
from collections.abc import Collection, Sequence

from torch import fx

from targets._missed import miss
from targets.base import Pass
from toolkit.fuse import FUSIONS
from toolkit.writes import written

log = logging.getLogger(__name__)


def run(graph: fx.GraphModule, order: Sequence[Pass]) -> list[int]:
    """Runs the passes in order; after each that rewrote something it cleans and lints, and at the end it recompiles.
    → their counts"""
    counts = []
    for rewrite in order:
        counts.append(rewrite(graph))
        log.debug("%s: %d", getattr(rewrite, "__name__", rewrite), counts[-1])
        if counts[-1]:
            _tidy(graph)
    if any(counts):  # once: no pass calls the graph, and its code takes longer to make than most passes
        graph.recompile()
    return counts


def fuse(graph: fx.GraphModule, names: Collection[str]) -> dict[str, int]:
    """Runs the fusions called `names` on a quantized graph, in the order of FUSIONS; none where an operator works in
    place on what others read, as they move reads. → how often each was applied"""
    chosen = [(name, rewrite) for name, rewrite in FUSIONS if name in names]
    writes = written(graph)
    for node in writes:
        miss(graph, "fusions", node.name, "it may write to what the graph is given or holds, or has views of")
    if writes:
        return dict.fromkeys((name for name, _ in chosen), 0)
    return dict(zip([name for name, _ in chosen], run(graph, [rewrite for _, rewrite in chosen]), strict=True))


def clean(graph: fx.GraphModule) -> None:
    """Removes nodes and submodules that nothing uses; checks the graph; makes its code anew."""
    _tidy(graph)
    graph.recompile()


def _tidy(graph: fx.GraphModule) -> None:
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
