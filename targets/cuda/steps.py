"""CUDA graphs for the steps of `generate`: one more token of each text, whose keys and values go where there is room.

A step is captured for one memory of keys and values, so its graphs go when that grows, or holds other texts.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree

from targets._place import Run
from targets.cuda.buckets import Capture, Capturing, Graphs, round_up
from targets.cuda.cached import REACH, CudaCachedAttention

aten = torch.ops.aten
Rooms = Sequence[tuple[Tensor, Tensor]]  # of each attention: keys and values [B, shared, C, d]


@dataclass(frozen=True)
class Cache:
    """What a graph keeps of earlier tokens. mask, and past of each attention, keys and values: the names of its inputs;
    results: for each of its outputs whose keys or values it is, a place in `attentions` and 0 or 1; None: no one's"""

    mask: str
    past: tuple[tuple[str, str], ...]
    attentions: tuple[CudaCachedAttention, ...]
    results: tuple[tuple[int, int] | None, ...]


def with_steps(graph: fx.GraphModule, device: torch.device) -> Run:
    """→ what to call in the place of `graph`: Steps, or the graph itself where a step of it can't be captured"""
    found = cache_of(graph)
    return Steps(graph, found, capture_on(device)) if isinstance(found, Cache) else graph


def capture_on(device: torch.device) -> Capture | None:
    """→ None: nothing is captured there"""
    return Capturing() if device.type == "cuda" else None


def cache_of(graph: fx.GraphModule) -> Cache | str | None:
    """→ why its steps can't be captured, where anything but our attentions reads the cache or the mask, whose sizes
    change; None: there is no cache"""
    calls: list[Any] = [node for node in graph.graph.find_nodes(op="call_module") if _is_ours(graph, node)]
    past = {node: call for call in calls for node in call.args[1:3]}
    inputs = graph.graph.find_nodes(op="placeholder")
    others = [node for node in inputs if "val" in node.meta and node.meta["val"].dim() == 4 and node not in past]
    output: Any = graph.graph.output_node()
    parts = [(place, part) for place, call in enumerate(calls) for part in call.users]
    wholes = {part: (place, part.args[1] - 1) for place, part in parts if part.args[1]}  # getitem(call, 1 or 2)
    readers = {node: {call} for node, call in past.items()} | {node: {output} for node in wholes}
    readers |= {call.args[3]: set(calls) for call in calls}
    strange = others + [node for node, wanted in readers.items() if _readers(node) != wanted]
    if strange:
        return f"{strange[0].name} is read by something else than attention of cuda's own"
    if not calls:
        return None
    names = tuple((call.args[1].name, call.args[2].name) for call in calls)
    attentions = tuple(cast(CudaCachedAttention, graph.get_submodule(call.target)) for call in calls)
    results = tuple(wholes.get(node) for node in output.args[0])
    return Cache(calls[0].args[3].name, names, attentions, results)


def _is_ours(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(graph.get_submodule(str(node.target)), CudaCachedAttention)


def _readers(node: fx.Node) -> set[fx.Node]:
    """→ what reads more of `node` than how many texts there are"""
    return {user for user in node.users if user.target is not aten.sym_size.int or user.args[1] != 0}


class Steps:
    """The graph's calls: those with one new token and a cache are captured, by how many tokens they reach."""

    def __init__(self, graph: fx.GraphModule, cache: Cache, capture: Capture | None) -> None:
        self.graph, self.cache, self.step = graph, cache, cache.attentions[0].step  # which is all attentions'
        self.graphs = Graphs(capture) if capture else None
        self.lock = threading.Lock()  # one call at a time: they share the rooms and `step`
        self.made: list[int] = []  # of the rooms that were captured
        self.spec: Any = None  # of what the graph returns

    @torch.no_grad()
    @torch.inference_mode(False)  # what is captured is written to later, in whichever mode
    def __call__(self, **given: Tensor) -> Any:
        past = given[self.cache.past[0][0]].shape[2]
        with self.lock:
            if self.graphs is not None and past and given[self.cache.mask].shape[1] == past + 1:
                return self._step(self.graphs, given, past)
            found = self.graph(**given)
            self._forget()
            return found

    def _step(self, graphs: Graphs, given: dict[str, Tensor], past: int) -> Any:
        """past: how many tokens the new one follows"""
        names = zip(self.cache.attentions, self.cache.past, strict=True)
        rooms = [one.room.extend(given[key], given[value], 1) for one, (key, value) in names]
        self._forget()
        reach = min(round_up(past + 1, REACH), rooms[0][0].shape[2])
        mask, others = given[self.cache.mask], self._others(given)
        at = torch.full((1,), past, device=mask.device)
        inputs = [at, F.pad(mask != 0, (0, reach - past - 1)), *(given[name] for name in others)]

        def fill(held: list[Tensor]) -> None:
            for whole, part in zip(held, inputs, strict=True):
                whole.copy_(part)

        run = partial(self._run, rooms, others)
        results = iter(graphs(reach, run, lambda: [part.clone() for part in inputs], fill, reach))
        leaves = [rooms[which[0]][which[1]].narrow(2, 0, past + 1) if which else next(results).clone()
                  for which in self.cache.results]  # fmt: skip
        return _pytree.tree_unflatten(leaves, self.spec)

    def _run(self, rooms: Rooms, others: Sequence[str], inputs: list[Tensor], reach: int) -> tuple[Tensor, ...]:
        """inputs: `at`, the mask of the first `reach` tokens, and the graph's others → its results but for the cache"""
        at, mask, *rest = inputs
        given = {self.cache.mask: mask, **dict(zip(others, rest, strict=True))}
        for names, pair in zip(self.cache.past, rooms, strict=True):
            given.update(zip(names, pair, strict=True))
        self.step.at = at
        try:
            leaves, self.spec = _pytree.tree_flatten(self.graph(**given))
        finally:
            self.step.at = None
        return tuple(leaf for leaf, which in zip(leaves, self.cache.results, strict=True) if which is None)

    def _others(self, given: dict[str, Tensor]) -> list[str]:
        held = {self.cache.mask, *(name for names in self.cache.past for name in names)}
        return [name for name in given if name not in held]

    def _forget(self) -> None:
        """Graphs that read rooms which are gone go too."""
        made = [one.room.made for one in self.cache.attentions]
        if made != self.made and self.graphs is not None:
            self.graphs.kept.clear()
        self.made = made
