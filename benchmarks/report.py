"""What was measured as JSON: one entry an engine, and what the shares are shares of."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import Contender, LeftOut
from benchmarks.measure import latency
from operators import peak

PEAK = "int8"  # the share of every engine's, whatever its precision, so that shares compare as times do


def peaks(threads: int) -> dict[str, Any]:
    """→ {"int8": {"isa", "tops"}, ...}, or {"reason"} where it can't be measured"""
    try:
        found = peak.measure(threads)
    except peak.PeakError as error:
        return {"reason": str(error)}
    if PEAK not in found:
        return {"reason": f"no measured peak: no {PEAK} instruction set of csrc/peak.inc runs on this CPU"}
    return {kind: {"isa": one.isa, "tops": round(one.tops, 4)} for kind, one in found.items()}


def better(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Of two measurements of the peaks, the higher one of each: a busy machine only lowers them."""
    if "reason" in first or "reason" in second:
        return first
    return {kind: max(first[kind], second[kind], key=lambda one: one["tops"]) for kind in first}


def entry(
    contender: Contender, times: Sequence[Sequence[float]], work: int, machine: dict[str, Any], a_pass: bool
) -> dict[str, Any]:
    """One engine's JSON.

    times: milliseconds by turn. work: multiply-adds of one call, or with `a_pass` of all calls of a turn together.
    samples_per_second: of the median call, or of the median pass. share_of_peak: 2 · multiply-adds of all linears and
    of attention's products, over that time and the measured int8 peak; None where there is no peak. Padding is no work.
    """
    calls = [time for turn in times for time in turn]
    rows = contender.batches.batches[0]["input_ids"].shape[0]
    samples = rows * len(contender.batches.batches) if a_pass else rows
    seconds = (statistics.median(sum(turn) for turn in times) if a_pass else statistics.median(calls)) / 1000
    tops = machine.get(PEAK, {}).get("tops")
    found = {
        "name": contender.engine.name,
        "version": contender.engine.version(),
        "precision": contender.engine.precision,
        "note": contender.engine.note,
        "latency_ms": latency(calls),
        "samples_per_second": round(samples / seconds, 3),
        "share_of_peak": None if tops is None else round(2e-12 * work / seconds / tops, 4),
        "sqnr_db": round(contender.sqnr_db, 2),
        "calls": len(calls),
    }
    return {**found, "batches": contender.batches.how, "seconds_a_pass": seconds} if a_pass else found


def left_out(missing: LeftOut, a_pass: bool) -> dict[str, Any]:
    """The JSON of an engine that was asked for and not measured."""
    found = {
        "name": missing.engine.name,
        "version": missing.engine.version(),
        "installed": missing.installed,
        "reason": missing.reason,
    }
    return {**found, "batches": missing.how} if a_pass else found


def whole(ours: list[dict[str, Any]], peers: list[dict[str, Any]], absent: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of our fastest entry at the top, where scripts look for them; then the lists."""
    best = max(ours, key=lambda one: one["samples_per_second"])
    top = {name: best[name] for name in ("latency_ms", "samples_per_second", "share_of_peak", "sqnr_db")}
    return {**top, "ours": ours, "peers": peers, "left_out": absent}


def as_text(result: dict[str, Any]) -> str:
    """As `--json` prints it."""
    return json.dumps(result, ensure_ascii=False, indent=2)
