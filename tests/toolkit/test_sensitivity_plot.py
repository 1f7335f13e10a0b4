"""The picture of what was measured: its axes say what there is, also where all answers are equal."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from toolkit.sensitivity import plot


def tried(share: float, equal: float) -> dict:
    return {"share": share, "equal": equal, "drop": 0.0}


@pytest.mark.parametrize(
    "points", [[tried(0.0, 100.0)], [tried(0.0, 100.0), tried(0.4, 100.0)], [tried(0.0, 97.5), tried(0.3, 100.0)]]
)
def test_no_answers_beyond_all(points: list[dict]) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    plot._curve(axes, {**points[-1], "tried": points}, 40)
    figure.canvas.draw()
    low, high = axes.get_ylim()
    assert high == 100 and low < min(one["equal"] for one in points)
    assert axes.yaxis.get_offset_text().get_text() == ""
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert {label.get_fontsize() for label in labels} == {7.0}
    assert all(float(label.get_text()) <= 100 for label in axes.get_yticklabels())
