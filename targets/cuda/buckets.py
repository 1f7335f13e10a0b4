"""CUDA graphs by bucket of shape: what was launched once, kernel by kernel, is replayed in one call.

A graph is captured for one shape, so batches are filled up to the next of a few: tokens that belong to no sequence,
and sequences of no token. What comes of those is cut off; no real token looks at them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

STEPS = 16  # sizes from one power of two to the next: at most 1/16 of a batch is filling
SMALLEST = 16  # tokens; and the kernels like multiples of it
ATTENTION = 128  # rows of queries that one program of FlashAttention takes
MOST = 64  # graphs that are kept; the one that was used longest ago goes first
THREAD = "thread_local"  # whose calls a capture forbids: other threads may go on

Run = Callable[[list[Tensor], int], tuple[Tensor, ...]]


class Bucket(NamedTuple):
    """tokens T, sequences B, and the most tokens of a sequence that the captured attention reaches"""

    tokens: int
    sequences: int
    longest: int

    @staticmethod
    def of(tokens: int, sequences: int, longest: int) -> "Bucket":
        reach = -(-max(longest, 1) // ATTENTION) * ATTENTION  # with 0 attention would look for the longest itself
        return Bucket(round_up(tokens, SMALLEST), _power(sequences), reach)


def round_up(count: int, least: int) -> int:
    """→ the next size, of STEPS between powers of two, all multiples of `least`"""
    step = max(least, _power(count) // 2 // STEPS)
    return max(least, -(-count // step) * step)


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


@dataclass(frozen=True)
class Captured:
    """A graph that reads `inputs` and leaves its results in `outputs`, whenever `replay` is called."""

    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]


Capture = Callable[[Run, list[Tensor], int], Captured]


class Graphs:
    """What runs again and again, each time with other inputs of the same sizes: as it is the first time that its key
    comes, captured the second time, replayed from then on."""

    def __init__(self, capture: Capture, most: int = MOST) -> None:
        self.capture, self.most = capture, most
        self.kept: OrderedDict[object, Captured | None] = OrderedDict()  # None: came once

    def __call__(
        self,
        key: object,
        run: Run,
        make: Callable[[], list[Tensor]],
        fill: Callable[[list[Tensor]], None],
        longest: int,
    ) -> tuple[Tensor, ...]:
        """run(inputs, longest) → its results, good until the next call; make: makes inputs, fill: writes to those that
        were captured"""
        seen, held = key in self.kept, self.kept.get(key)
        if held is None:
            inputs = make()
            held = self.capture(run, inputs, longest) if seen else None
            self._keep(key, held)
            if held is None:
                return run(inputs, longest)
        else:
            self.kept.move_to_end(key)
            fill(held.inputs)
        held.replay()
        return held.outputs

    def _keep(self, key: object, held: Captured | None) -> None:
        self.kept[key] = held
        self.kept.move_to_end(key)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)


class Replays:
    """run(inputs, longest), captured for the buckets that come more than once; `capture` makes a graph of it."""

    def __init__(self, run: Run, device: torch.device, capture: Capture | None = None, most: int = MOST) -> None:
        self.run, self.device = run, device
        self.graphs = Graphs(capture or Capturing(), most)

    @torch.no_grad()
    @torch.inference_mode(False)  # what is captured is written to later, in whichever mode
    def __call__(self, ids: Sequence[Tensor], starts: Tensor, longest: int) -> tuple[Tensor, ...]:
        """ids [T, ...] each, starts int32 [B + 1] → the results' first T rows; good until the next call"""
        total = ids[0].shape[0]
        bucket = Bucket.of(total, len(starts) - 1, longest)
        kinds = tuple((part.dtype, part.shape[1:]) for part in ids)
        made = partial(self._filled, ids, starts, bucket)
        filled = partial(_fill, ids=ids, starts=starts)
        return tuple(rows[:total] for rows in self.graphs((bucket, kinds), self.run, made, filled, bucket.longest))

    def _filled(self, ids: Sequence[Tensor], starts: Tensor, bucket: Bucket) -> list[Tensor]:
        """→ inputs of the bucket's size on the device, with this batch in them"""
        sizes = [(bucket.tokens, *part.shape[1:]) for part in ids] + [(bucket.sequences + 1,)]
        inputs = [
            torch.zeros(size, dtype=part.dtype, device=self.device)
            for size, part in zip(sizes, [*ids, starts], strict=True)
        ]
        _fill(inputs, ids, starts)
        return inputs


def _fill(inputs: list[Tensor], ids: Sequence[Tensor], starts: Tensor) -> None:
    """Whatever ids were there before stay in what is filling: they are ids that have a place in the tables."""
    for held, part in zip(inputs, ids, strict=False):
        held[: part.shape[0]].copy_(part, non_blocking=True)
    last = starts[-1:].expand(inputs[-1].shape[0] - len(starts))
    inputs[-1].copy_(torch.cat([starts, last]), non_blocking=True)


class Capturing:
    """Captures on the current GPU; all graphs share memory, as no two of them run at once."""

    def __init__(self) -> None:
        self.pool: Any = None  # of no graph yet

    def __call__(self, run: Run, inputs: list[Tensor], longest: int) -> Captured:
        if self.pool is None:
            self._begin()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # once more uncaptured: kernels compile, libraries take their workspace
            run(inputs, longest)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode=THREAD):
            outputs = run(inputs, longest)
        return Captured(inputs, outputs, graph.replay)

    def _begin(self) -> None:
        """A graph that is there to stay, and is never replayed: PyTorch refuses to capture into memory whose last graph
        is gone."""
        self.first, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self.first, pool=pool, capture_error_mode=THREAD):
            torch.zeros(1, device="cuda")
        self.pool = pool
