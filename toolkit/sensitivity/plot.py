"""The measurements as one picture: a bar a linear for its share of the error, and what the repair was chosen from."""

import importlib.util
import io
from typing import Any

KEPT, INT, EDGE = "#c2410c", "#94a3b8", "#1e293b"
ROW, PANEL = 0.19, 1.6  # inches: a bar, and what a panel has around it


def available() -> str | None:
    """None, or why no plot can be drawn here."""
    found = importlib.util.find_spec("matplotlib")
    return None if found else "a plot needs matplotlib, which is not installed: pip install -e .[bench]"


def draw(result: dict[str, Any]) -> bytes:
    """result: the command's JSON → a PNG. Left: noise at the model's outputs from each linear alone, those that the
    recipe keeps coloured. Right: every set of linears that was measured, by their work in float."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layers = result["layers"]
    figure = Figure(figsize=(13, max(ROW * len(layers) + PANEL, 4)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(left, layers, set(result["repair"]["kept"]))
    _curve(right, result["repair"], result["reference"]["questions"])
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=110)
    return made.getvalue()


def _bars(axes: Any, layers: list[dict[str, Any]], kept: set[str]) -> None:
    colors = [KEPT if layer["name"] in kept else INT for layer in layers]
    axes.barh(range(len(layers)), [layer["noise"] for layer in layers], color=colors, height=0.75)
    for place, layer in enumerate(layers):
        said = f" {100 * layer['share']:.1f}% of the work"
        axes.text(layer["noise"], place, said, va="center", fontsize=7, color=EDGE)
    axes.set_yticks(range(len(layers)), [layer["name"] for layer in layers], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.3, y=0.01)
    axes.set_title("Noise at the outputs, one linear alone quantized; kept ones coloured", fontsize=9, loc="left")
    axes.set_xlabel("|error|² / |signal|²", fontsize=8)
    _plain(axes)


def _curve(axes: Any, repair: dict[str, Any], questions: int) -> None:
    tried = sorted(repair["tried"], key=lambda one: one["share"])
    axes.scatter([100 * one["share"] for one in tried], [one["equal"] for one in tried], color=INT, s=22, clip_on=False)
    axes.scatter([100 * repair["share"]], [repair["equal"]], color=KEPT, s=60, clip_on=False)
    for one in tried:
        at = (100 * one["share"], one["equal"])
        axes.annotate(f"{one['drop']:+.2f}", at, fontsize=7, color=EDGE, xytext=(4, 4), textcoords="offset points")
    lowest = min(one["equal"] for one in tried)
    most = max(100 * one["share"] for one in tried)
    axes.set_xlim(-0.05 * max(most, 10), 1.15 * max(most, 10))  # no axis of a single point
    axes.set_ylim(lowest - 0.15 * max(100 - lowest, 1), 100)  # nor of none where all answers are equal
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title(f"What was measured on {questions} questions; F1 drop beside it", fontsize=9, loc="left", pad=14)
    axes.set_xlabel("% of the multiply-adds of the linears kept in float to repair", fontsize=8)
    axes.set_ylabel("% of the answers equal to float's", fontsize=8)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
