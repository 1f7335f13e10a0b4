"""What the linears of a float graph read, seen in a stream of batches: memory does not grow with their number."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, fx

from targets.base import NotFinite, UsageError
from toolkit.calibrate import Batches, Progress, Scratch
from toolkit.calibrate.state import Batch, flat, key_of, nested
from toolkit.calibrate.stream import stream
from toolkit.inputs import complete

FORMAT = "opswap-moments-1"
SAMPLE = 512  # rows of each input that are kept; the searches measure their error on them


@dataclass
class Moments:
    """Of rows x [K], one a real token: count; low and high [K]; total and squares, the sums of x and x², float64 [K];
    outer, the sum of xᵀx, float32 [K, K], or None where it was not asked for; rows float32 [≤ SAMPLE, K], drawn evenly
    from all, and what each drew."""

    count: int = 0
    low: Tensor = field(default_factory=lambda: torch.tensor(torch.inf))
    high: Tensor = field(default_factory=lambda: torch.tensor(-torch.inf))
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    outer: Tensor | None = None
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    ranks: Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, x: Tensor, square: bool, generator: torch.Generator) -> None:
        """x float32 [T, K]"""
        if not len(x):
            return
        self.count += len(x)
        self.low, self.high = torch.minimum(self.low, x.amin(0)), torch.maximum(self.high, x.amax(0))
        self.total = self.total + x.sum(0, dtype=torch.float64)
        self.squares = self.squares + x.square().sum(0, dtype=torch.float64)
        if square:
            product = x.t() @ x
            self.outer = product if self.outer is None else self.outer.add_(product)
        # each row draws a number, and those with the smallest stay: an even sample of a stream
        ranks = torch.cat([self.ranks, torch.rand(len(x), generator=generator)])
        self.ranks, best = ranks.sort().values[:SAMPLE], ranks.argsort()[:SAMPLE]
        self.rows = torch.cat([self.rows.reshape(-1, x.shape[1]), x])[best]

    def state(self) -> dict[str, Tensor]:
        """→ all there is, as tensors"""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: torch.as_tensor(value) for name, value in found.items() if value is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Moments":
        sums = {name: state[name] for name in ("low", "high", "total", "squares", "rows", "ranks")}
        return cls(int(state["count"]), outer=state.get("outer"), **sums)

    def mean(self) -> Tensor:
        """→ float32 [K]"""
        return (self.total / self.count).float()

    def square(self) -> Tensor:
        """→ E[x²], float32 [K]"""
        return (self.squares / self.count).float()

    def hessian(self) -> Tensor:
        """→ E[xᵀx], float32 [K, K]"""
        if self.outer is None:
            raise ValueError("hessian wants moments that were observed with square=True; observe again")
        return self.outer / self.count


def observe(
    graph: fx.GraphModule,
    data: Batches,
    names: Collection[str],
    square: bool = False,
    scratch: Scratch | None = None,
    progress: Progress | None = None,
) -> dict[str, Moments]:
    """Runs the batches through `graph`. → what each of the linears `names` reads, over all of its calls

    Tokens that the attention mask hides are left out. Linears that read one node share one Moments. scratch: where a
    call that is killed leaves what it has seen, for the next. Raises UsageError when `data` has no batch with a real
    token, NotFinite where a linear reads NaN or infinity.
    """
    reads: dict[str, tuple[fx.Node, ...]] = {}
    for node in graph.graph.find_nodes(op="call_module"):
        if node.target in names:
            reads[str(node.target)] = (*reads.get(str(node.target), ()), node.args[0])  # type: ignore[arg-type]
    watcher = _Watcher(graph, list(dict.fromkeys(reads.values())), square)
    place = None
    if scratch is not None and scratch.folder is not None:
        place = scratch.place("moments", key_of(graph, (FORMAT, SAMPLE, square, list(reads)), data))
    if not stream(watcher, data, place, progress).batches:
        raise UsageError("calibration data holds no batch; give at least one question")
    if not all(seen.count for seen in watcher.moments.values()):
        raise UsageError("calibration wants at least one batch with real tokens; got none; give other data")
    return {name: watcher.moments[nodes] for name, nodes in reads.items()}


class _Watcher(fx.Interpreter):
    """Runs a graph and adds what certain nodes come to."""

    def __init__(self, graph: fx.GraphModule, reads: Sequence[tuple[fx.Node, ...]], square: bool) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # an error says by itself what is wrong
        self.square, self.generator = square, torch.Generator().manual_seed(0)
        self.real: Tensor | None = None
        self.moments = {nodes: Moments() for nodes in reads}
        self.readers: dict[fx.Node, list[tuple[fx.Node, ...]]] = defaultdict(list)
        for nodes in reads:
            for node in dict.fromkeys(nodes):
                self.readers[node].append(nodes)

    @torch.no_grad()
    def see(self, batch: Batch) -> None:
        _, inputs = complete(self.module, (), dict(batch))  # type: ignore[arg-type]
        mask = inputs.get("attention_mask")
        self.real = None if mask is None else mask.bool()
        self.run(*inputs.values())

    def state(self) -> dict[str, Tensor]:
        """The moments by their number: what reads them may have any name."""
        parts = {str(number): seen.state() for number, seen in enumerate(self.moments.values())}
        return flat({**parts, "generator": {"state": self.generator.get_state()}})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        parts = nested(state)
        found = {nodes: Moments.from_state(parts[str(n)]) for n, nodes in enumerate(self.moments)}
        self.generator.set_state(parts["generator"]["state"])
        self.moments = found

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for nodes in self.readers.get(n, ()):
            tokens = self.real is not None and value.shape[:-1] == self.real.shape
            rows = value[self.real] if tokens else value.reshape(-1, value.shape[-1])
            if not rows.isfinite().all():
                raise NotFinite(f"{n}, which linears read, must be finite; got NaN or infinity; check the checkpoint")
            self.moments[nodes].add(rows.float(), self.square, self.generator)
        return value
