"""What was compared as one HTML page that needs nothing else: no network, no files beside it."""

from collections.abc import Sequence
from html import escape
from typing import Any

from toolkit.sensitivity.page import STYLE

OURS = """
td.pass { color: #166534; font-weight: 600 } td.fail { color: #b91c1c; font-weight: 600 }
td, th { text-align: left } th { cursor: default }
"""


Rows = Sequence[Sequence[Any]]


def page(title: str, lines: Sequence[str], tables: Sequence[tuple[str, Sequence[str], Rows]]) -> str:
    """title; lines above the tables; tables: heading, columns, rows of cells → HTML; a cell PASS or FAIL is coloured"""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    parts = "\n".join(_table(*table) for table in tables)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}{OURS}</style></head>
<body><h1>{escape(title)}</h1><ul>{listed}</ul>
{parts}
</body></html>
"""


def _table(heading: str, columns: Sequence[str], rows: Rows) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<h2>{escape(heading)}</h2>\n<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(value: Any) -> str:
    kind = {"PASS": " class=pass", "FAIL": " class=fail"}.get(value, "")
    return f"<td{kind}>{escape(str(value))}</td>"
