"""Times of several engines in one process, in turns, so that what disturbs the machine disturbs them all.

Each engine has a turn a round, and who begins moves on by one place a round. Engines bring thread pools of their own,
whose threads spin for a while after a call and would slow the next engine's (OpenMP's for up to 200 ms); so a turn
begins with a pause in which they go to sleep, then calls once or twice untimed, which wakes the engine's own threads
and brings its weights back to the caches, and only then are calls timed, back to back, with every pool at its best.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.base import Batch, Run

CALLS = 5  # timed calls of one batch in a turn
WARM = 2  # untimed ones before them
PAUSE = 0.25  # seconds: longer than Intel's OpenMP lets idle threads spin (KMP_BLOCKTIME, 200 ms)


@dataclass(frozen=True)
class Protocol:
    """pause in seconds before a turn; warm: untimed calls of the turn's first batch after it."""

    pause: float = PAUSE
    warm: int = WARM


def turns_of(batch: Batch, iterations: int, calls: int = CALLS) -> list[list[Batch]]:
    """`iterations` timed calls of one batch, as the batches of each turn: `calls` a turn, what is left in the last."""
    whole, left = divmod(iterations, calls)
    return [[batch] * calls] * whole + [[batch] * left] * bool(left)


def interleaved(
    runs: Mapping[str, Run],
    turns: Mapping[str, Sequence[Sequence[Batch]]],
    protocol: Protocol = Protocol(),
    progress: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[list[float]]]:
    """Milliseconds of every timed call, by engine and turn. `turns[name][r]` are the batches of round r; all engines
    have as many rounds. `progress` is called after each turn."""
    names = list(runs)
    rounds = {len(turns[name]) for name in names}
    if len(rounds) != 1:
        raise ValueError(f"every engine needs as many rounds as the others; got {sorted(rounds)}")
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    for number in range(rounds.pop()):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            times[name].append(_turn(runs[name], turns[name][number], protocol, clock))
            if cores is not None:
                os.sched_setaffinity(0, cores)  # an engine that pins its threads may have pinned this one
            progress()
    return times


def _turn(run: Run, batches: Sequence[Batch], protocol: Protocol, clock: Callable[[], float]) -> list[float]:
    time.sleep(protocol.pause)
    for _ in range(protocol.warm):
        run(batches[0])
    found = []
    for batch in batches:
        begun = clock()
        run(batch)
        found.append(1000 * (clock() - begun))
    return found


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest of the measured times that at least `share` (0 to 1) of them do not exceed (nearest rank)."""
    if not times:
        raise ValueError("percentile wants at least one time; got none; measure at least once")
    # rounded first: 0.95 * 20 is a little above 19 in floating point
    return sorted(times)[max(1, math.ceil(round(share * len(times), 9))) - 1]


def latency(times: Sequence[float]) -> dict[str, float]:
    """→ median, p95, p99 and min of milliseconds"""
    found = {"median": statistics.median(times), "p95": percentile(times, 0.95), "p99": percentile(times, 0.99)}
    return {name: round(value, 4) for name, value in {**found, "min": min(times)}.items()}
