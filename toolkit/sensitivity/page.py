"""The measurements as one HTML page that needs nothing else: no network, no files beside it."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

COLUMNS: tuple[tuple[str, str, str], ...] = (  # key, heading, format
    ("name", "linear", "{}"),
    ("precision", "recipe", "{}"),
    ("share", "% of work", "{:.2%}"),
    ("sqnr_db", "own SQNR, dB", "{:.1f}"),
    ("cosine", "own cosine", "{:.6f}"),
    ("logits_db", "outputs' SQNR, dB, it alone in int", "{:.1f}"),
    ("spared_db", "outputs' SQNR, dB, all in int but it", "{:.2f}"),
    ("changed", "answers changed, it alone in int", "{}"),
    ("drop", "F1 drop, it alone in int", "{:+.2f}"),
    ("spared_changed", "answers changed, all in int but it", "{}"),
    ("spared_drop", "F1 drop, all in int but it", "{:+.2f}"),
)
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1e293b; margin: 2rem auto; max-width: 1300px; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { padding: .25rem .5rem; text-align: right }
th { cursor: pointer; vertical-align: bottom; border-bottom: 2px solid #94a3b8 }
td { border-bottom: 1px solid #e2e8f0; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; font-size: 12px }
tr.kept { background: #ffedd5 } img { width: 100% } pre { background: #f1f5f9; padding: 1rem; overflow: auto }
"""
SORT = """
document.querySelectorAll("th").forEach((head, column) => head.onclick = () => {
  const body = document.querySelector("tbody"), down = head.dataset.down !== "1";
  document.querySelectorAll("th").forEach(other => other.dataset.down = "");
  head.dataset.down = down ? "1" : "";
  const key = row => { const v = row.cells[column].dataset.v, n = Number(v); return Number.isNaN(n) ? v : n; };
  const order = (a, b) => key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
  [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)).forEach(row => body.append(row));
});
"""


def page(result: dict[str, Any], summary: Sequence[str], recipe: str, picture: bytes) -> str:
    """result: the command's JSON; summary: lines above the table; recipe: its YAML; picture: PNG → HTML"""
    title = f"Sensitivity of {result['model']}"
    head = "".join(f"<th>{escape(heading)}</th>" for _, heading, _ in COLUMNS)
    rows = "\n".join(_row(layer) for layer in result["layers"])
    lines = "".join(f"<li>{escape(line)}</li>" for line in summary)
    image = base64.b64encode(picture).decode("ascii")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{escape(title)}</h1><ul>{lines}</ul>
<img alt="Noise by linear, and what the repair was chosen from" src="data:image/png;base64,{image}">
<h2>Linears</h2><p>A click on a heading sorts; coloured rows are kept in float by the recipe.</p>
<table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table>
<h2>Recipe</h2><pre>{escape(recipe)}</pre>
<script>{SORT}</script></body></html>
"""


def _row(layer: dict[str, Any]) -> str:
    cells = "".join(_cell(layer[key], form) for key, _, form in COLUMNS)
    return f"<tr{' class=kept' if layer['precision'] != 'int' else ''}>{cells}</tr>"


def _cell(value: Any, form: str) -> str:
    """data-v: what the column is sorted by; a value that was not measured is a dash"""
    shown = "–" if value is None else form.format(value)
    return f'<td data-v="{"" if value is None else escape(str(value))}">{escape(shown)}</td>'
