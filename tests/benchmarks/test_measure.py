"""Percentiles by hand, and whose turn it is."""

import itertools

import pytest

from benchmarks.measure import Protocol, interleaved, latency, percentile, turns_of

NOW = Protocol(pause=0.0, warm=2)


@pytest.mark.parametrize(
    ("count", "share", "wanted"),
    [(1, 0.99, 1), (20, 0.95, 19), (20, 0.99, 20), (100, 0.95, 95), (100, 0.99, 99), (200, 0.99, 198), (10, 0.0, 1)],
)
def test_a_percentile_is_a_measured_time(count: int, share: float, wanted: int) -> None:
    times = [float(time) for time in range(count, 0, -1)]
    assert percentile(times, share) == wanted


def test_latency_of_hand_made_times() -> None:
    times = [float(time) for time in range(1, 101)]
    assert latency(times) == {"median": 50.5, "p95": 95.0, "p99": 99.0, "min": 1.0}
    assert latency([3.0]) == {"median": 3.0, "p95": 3.0, "p99": 3.0, "min": 3.0}


def test_no_times_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one time"):
        percentile([], 0.5)


@pytest.mark.parametrize(("iterations", "sizes"), [(1, [1]), (5, [5]), (12, [5, 5, 2])])
def test_iterations_are_shared_out_over_turns(iterations: int, sizes: list[int]) -> None:
    assert [len(turn) for turn in turns_of({}, iterations)] == sizes


def test_turns_go_round_and_warm_calls_are_not_timed() -> None:
    called: list[str] = []
    runs = {name: lambda batch, name=name: (called.append(name),) for name in "abc"}
    ticks = itertools.count()
    turns = {name: turns_of({}, 3, calls=1) for name in "abc"}
    times = interleaved(runs, turns, NOW, clock=lambda: next(ticks) / 1000)
    assert "".join(called) == "aaabbbccc" + "bbbcccaaa" + "cccaaabbb"
    assert times == {name: [[pytest.approx(1.0)]] * 3 for name in "abc"}


def test_engines_with_different_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="as many rounds"):
        interleaved({"a": lambda _: (), "b": lambda _: ()}, {"a": [[{}]], "b": [[{}], [{}]]}, NOW)
