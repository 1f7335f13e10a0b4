"""`plan` as a picture: where a call's time goes on each device, and each kind of linear against the array's peak."""

from pathlib import Path
from typing import Any

from benchmarks.files import in_place
from commands.plan_report import PARTS, shared_beginning
from targets.aie import plan

COLORS = {"compute": "#c2410c", "memory": "#f59e0b", "dispatch": "#64748b", "reconfiguration": "#0f766e",
          "host": "#cbd5e1"}  # fmt: skip
EDGE = "#1e293b"


def draw(result: dict[str, Any], path: Path) -> None:
    """Writes the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen, kinds = result["devices"][0], _kinds(result["devices"][0])
    count = len(result["devices"])
    figure = Figure(figsize=(9, 2.6 + 0.45 * (2 * count + len(kinds))), layout="constrained")
    FigureCanvasAgg(figure)
    ways, panel = figure.subplots(2, 1, height_ratios=[2 * count + 1, len(kinds) + 1.5])
    _parts(ways, result["devices"])
    sizes = f"batch {result['batch_size']}, {result['sequence_length']} tokens"
    ways.set_title(f"{result['model']}, {sizes}: predicted on the NPU", fontsize=10, loc="left")
    _linears(panel, chosen, kinds)
    in_place(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def _parts(axes: Any, entries: list[dict[str, Any]]) -> None:
    names: list[str] = []
    for one in entries:
        queued = one["what_if_ms_a_sample"]["dispatches queued behind each other"]
        samples = one["latency_ms"] * one["samples_per_second"] / 1000
        shorter = one["parts_ms"]["dispatch"] - (one["latency_ms"] - queued * samples)
        for how, dispatch in (("", one["parts_ms"]["dispatch"]), (", dispatches queued", shorter)):
            left, values = 0.0, {**one["parts_ms"], "dispatch": dispatch}
            for part in PARTS:
                label = part if not names else None
                axes.barh(len(names), values[part], left=left, color=COLORS[part], height=0.7, label=label)
                left += values[part]
            axes.text(left, len(names), f" {left:.1f} ms", va="center", fontsize=8, color=EDGE)
            names.append(f"{one['name']}{how}")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("milliseconds", fontsize=8)
    axes.legend(fontsize=8, ncols=len(PARTS), loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    _finish(axes, 0.12)


def _linears(axes: Any, entry: dict[str, Any], kinds: dict[str, dict[str, Any]]) -> None:
    values = [one["array_tops"] for one in kinds.values()]
    axes.barh(range(len(values)), values, color=COLORS["compute"], height=0.7)
    for place, one in enumerate(kinds.values()):
        words = f" {one['array_tops']:.1f} TOPS, {one['bound']}, {one['waste']:.0%} padding"
        axes.text(one["array_tops"], place, words, va="center", fontsize=8, color=EDGE)
    device = entry["parameters"]
    peak = 2 * device["rows"] * device["columns"] * device["types"]["int8"]["macs"] * device["clock"] / 1e12
    axes.axvline(peak, color=EDGE, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(values)), list(kinds), fontsize=8)
    axes.set_title(f"{entry['title']}: TOPS while on the array; dotted: its peak, {peak:.1f}", fontsize=9, loc="left")
    _finish(axes, 0.02)


def _finish(axes: Any, margin: float) -> None:
    axes.invert_yaxis()
    axes.margins(x=margin)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _kinds(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """→ one linear of each kind, by name and shape"""
    begin = shared_beginning(plan.kind(one["name"]) for one in entry["linears"])
    names = [plan.kind(one["name"]).removeprefix(begin) for one in entry["linears"]]
    return {
        f"{name}  {'×'.join(map(str, one['gemm']))}": one for name, one in zip(names, entry["linears"], strict=True)
    }
