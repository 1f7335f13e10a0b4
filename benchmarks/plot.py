"""Results of `bench` as one picture, a panel each: a bar an engine, ours in colour, fastest on top.

python -m benchmarks.plot PICTURE.png RESULT.json...
"""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.files import in_place
from benchmarks.one_line import OneLine
from benchmarks.table import engines, title
from models import InputError
from models.question_answering.examples import read_text
from targets._json import parse_json

OURS, OTHERS, EDGE = "#c2410c", "#94a3b8", "#1e293b"
ROW, PANEL = 0.3, 1.3  # inches: a bar, and what a panel has around them


def available() -> str | None:
    """None, or why no plot can be drawn here."""
    found = importlib.util.find_spec("matplotlib")
    return None if found else "a plot needs matplotlib, which is not installed: pip install -e .[bench]"


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes the picture. Bars are median times; with --data, the time a sample takes. Ticks mark the minima."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [ROW * len(engines(result)) + PANEL for result in results]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), 1, squeeze=False, height_ratios=heights)
    for result, axes in zip(results, panels[:, 0], strict=True):
        _panel(axes, result)
    in_place(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def _panel(axes: Any, result: dict[str, Any]) -> None:
    shown = engines(result)
    a_sample = "data" in result
    times = [1000 / entry["samples_per_second"] if a_sample else entry["latency_ms"]["median"] for entry in shown]
    colors = [OURS if entry in result["ours"] else OTHERS for entry in shown]
    axes.barh(range(len(shown)), times, color=colors, height=0.72)
    for place, (entry, value) in enumerate(zip(shown, times, strict=True)):
        share = entry["share_of_peak"]
        peak = "" if share is None else f"  {100 * share:.0f}%"
        axes.text(value, place, f" {value:.1f} ms{peak}", va="center", fontsize=8, color=EDGE)
        if not a_sample:
            axes.plot([entry["latency_ms"]["min"]] * 2, [place - 0.36, place + 0.36], color=EDGE, linewidth=1)
    names = [entry["name"] + (f", {entry['batches']}" if "batches" in entry else "") for entry in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    what = "milliseconds a sample" if a_sample else "median milliseconds, minimum marked"
    axes.set_title(title(result), fontsize=10, loc="left")
    axes.set_xlabel(f"{what}; % of the measured int8 peak", fontsize=8)


def read_result(path: str) -> dict[str, Any]:
    """→ what `bench` wrote. Raises InputError for any other file."""
    try:
        result = parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}): give what bench --output wrote") from error
    if not (isinstance(result, dict) and {"ours", "peers"} <= result.keys()):
        raise InputError(f"{path} is no result of bench (no 'ours' and 'peers' in it): give what bench --output wrote")
    return result


@click.command(cls=OneLine)
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("results", nargs=-1, required=True)
def main(picture: Path, results: tuple[str, ...]) -> None:
    """Draws the JSON files RESULTS that `bench --output` wrote, a panel each, as PICTURE (PNG)."""
    if why := available():
        raise InputError(why)
    draw([read_result(path) for path in results], picture)


if __name__ == "__main__":
    main()
