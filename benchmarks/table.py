"""A result of `bench` as a table: what it is a measurement of, and one row an engine."""

from collections.abc import Sequence
from typing import Any

COLUMNS = ("engine", "median ms", "p95", "p99", "min", "samples/s", "share of int8 peak", "ours is faster", "SQNR dB")
USUAL = "ask"  # the task that a title leaves out
OPERATORS = ("operator", "nodes", "ms", "share")


def title(result: dict[str, Any]) -> str:
    """Model, task, shape or data, threads; in one line."""
    task = result.get("task", USUAL)  # files of earlier versions have none
    named = result["model"] if task == USUAL else f"{result['model']}, {task}"
    what, threads = f"{named}, batch {result['batch_size']}", in_threads(result["threads"])
    if "data" in result:
        return f"{what}, {result['data']['windows']} windows of {result['data']['file']}, {threads}"
    return f"{what}, {result['sequence_length']} tokens, {threads}"


def in_threads(count: int) -> str:
    """A number of threads, in words."""
    return f"{count} thread{'s' * (count > 1)}"


def engines(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours and the peers, fastest first: by samples a second, which different batches of one data set share."""
    return sorted(result["ours"] + result["peers"], key=lambda entry: -entry["samples_per_second"])


def label(entry: dict[str, Any]) -> str:
    """An engine's name with its version and what else a reader should know."""
    extra = [part for part in (entry["version"], entry.get("batches"), entry["note"]) if part]
    return entry["name"] + (f" ({', '.join(extra)})" if extra else "")


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of COLUMNS an engine. "ours is faster": its time over that of our fastest row."""
    best = max(entry["samples_per_second"] for entry in result["ours"])
    found = []
    for entry in engines(result):
        times = [f"{entry['latency_ms'][name]:.2f}" for name in ("median", "p95", "p99", "min")]
        rate = entry["samples_per_second"]
        share = entry["share_of_peak"]
        shown = "unknown" if share is None else f"{100 * share:.0f}%"
        ours = entry in result["ours"]
        row = (*times, f"{rate:.1f}", shown, "" if ours else f"{best / rate:.2f}×", f"{entry['sqnr_db']:.0f}")
        found.append((f"**{label(entry)}**" if ours else label(entry), *row))
    return found


def notes(result: dict[str, Any]) -> list[str]:
    """The measured peak, and one line for each engine that was left out, and for each reason why ours isn't faster."""
    peak = result["peak"]
    found = [f"Peak: {peak['reason']}"] if "reason" in peak else [_peak(peak, result["threads"])]
    for entry in result["left_out"]:
        how = f", {entry['batches']}" if "batches" in entry else ""
        found.append(f"Left out: {entry['name']}{how}: {entry['reason']}")
    found += [f"Missed: {one['what']}, {len(one['names'])} times: {one['why']}" for one in result.get("missed", ())]
    return found


def _peak(peak: dict[str, Any], threads: int) -> str:
    parts = [f"{kind} {entry['tops']:.2f} ({entry['isa']})" for kind, entry in peak.items()]
    return f"Measured peak on {in_threads(threads)}, 10¹² operations a second: {', '.join(parts)}"


def operators(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of --profile: operator, nodes, milliseconds a call, share."""
    return [
        (entry["operator"], str(entry["nodes"]), f"{entry['ms']:.3f}", f"{100 * entry['share']:.1f}%")
        for entry in result["operators"]
    ]


def markdown(result: dict[str, Any]) -> str:
    """The whole result, as a Markdown document."""
    parts = [
        f"### {title(result)}",
        in_markdown(COLUMNS, rows(result)),
        "\n".join(f"- {note}" for note in notes(result)),
    ]
    if "operators" in result:
        parts.append(in_markdown(OPERATORS, operators(result)))
    return "\n\n".join(parts) + "\n"


def text(result: dict[str, Any]) -> str:
    """The same for a terminal: columns aligned, lines as long as they need to be."""
    parts = [title(result), _aligned(COLUMNS, rows(result)), "\n".join(notes(result))]
    if "operators" in result:
        parts.append(_aligned(OPERATORS, operators(result)))
    return "\n\n".join(parts)


def _aligned(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [list(columns), *([cell.strip("*") for cell in line] for line in body)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    sides = ["<"] + [">"] * (len(columns) - 1)
    cells = [[f"{cell:{side}{wide}}" for cell, side, wide in zip(line, sides, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line) for line in cells)


def in_markdown(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
