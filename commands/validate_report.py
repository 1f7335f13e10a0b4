"""What `validate` found, as JSON, tables, lines and a page."""

from typing import Any

from rich.table import Table

from toolkit.validate import Measured, Pair, page

PAIR = ("target", "SQNR", "cosine", "largest difference", "equal answers", "wanted", "")
SIDE = ("side", "runs as", "native", "swapped / kept", "ms a row", "weights", "run adds")


def as_json(measured: list[Measured], found: list[Pair], reason: str | None) -> dict[str, Any]:
    """reason: of what the reference is, where that is not what the model's name says. → the fields of every command, of
    the last side; "inputs"; "reference"; "sides", the reference first; "pairs" """
    sides = [{"name": one.name, **one.about} for one in measured]
    about = sides[-1]
    header = {key: about[key] for key in ("model", "target", "precision", "scheme", "swapped", "kept")}
    inputs = {key: about[key] for key in ("task", "data", "rows", "tokens", "max_length")}
    shared = {"model", *inputs}
    return {
        **header,
        "inputs": {**inputs, "digest": measured[0].digest},
        "reference": {"name": measured[0].name, "model": measured[0].about["model"], "reason": reason},
        "sides": [{key: value for key, value in side.items() if key not in shared} for side in sides],
        "pairs": [pair.as_json() for pair in found],
        "passed": all(pair.passed for pair in found),
    }


def table(result: dict[str, Any]) -> list[Table]:
    """→ the sides, and the pairs where there are any"""
    made = []
    for columns, rows in ((SIDE, _side_rows(result)), (PAIR, _pair_rows(result))):
        if rows:
            shown = Table(box=None, header_style="bold")
            for column in columns:
                shown.add_column(column, no_wrap=True)
            for row in rows:
                shown.add_row(*row, style={"FAIL": "red"}.get(row[-1], ""))
            made.append(shown)
    return made


def lines(result: dict[str, Any]) -> list[str]:
    """→ what was run, why something is not native, and the answers that changed"""
    about = result["inputs"]
    said = [
        f"{result['model']}, task {about['task']}: {about['rows']} rows, {about['tokens']} tokens of {about['data']}"
    ]
    said += [result["reference"]["reason"]] if result["reference"]["reason"] else []
    said += [f"{side['name']}: {side['target']['reason']}" for side in result["sides"] if side["target"]["reason"]]
    for pair in result["pairs"]:
        said += [f"{pair['target']}: {why}" for why in pair["failed"] if pair["sqnr_db"] is None]
        said += [
            f"{pair['target']} answers {one['target'] or 'nothing'!r} where {pair['reference']} has "
            f"{one['reference'] or 'nothing'!r} ({one['id']})"
            for one in pair["changed"]
        ]
    return said


def html(result: dict[str, Any]) -> str:
    """→ one page that needs nothing else"""
    tables = [("Sides", SIDE, _side_rows(result)), ("Pairs", PAIR, _pair_rows(result))]
    return page(f"Validation of {result['model']}", lines(result), [one for one in tables if one[2]])


def _side_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for side in result["sides"]:
        target, memory = side["target"], side["memory"]
        rows.append([
            side["name"], f"{target['executed']} ({target['isa']})", "yes" if target["native"] else "no",
            f"{side['swapped']} / {len(side['kept'])}",
            _ms(side["latency_ms"]), _mb(memory["weights_mb"]),
            _mb(memory.get("run_adds_mb")),  # a file of an earlier version has none
        ])  # fmt: skip
    return rows


def _pair_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for pair in result["pairs"]:
        equal, least = pair["answers_equal"], pair["limits"]
        exact = pair["max_abs"] == 0
        counted = "–" if equal is None else f"{round(equal * pair['answers'])} of {pair['answers']} ({equal:.2%})"
        wanted = f"≥ {least['sqnr_db']:g} dB, {least['cosine']:g}, {least['answers_equal']:.0%}"
        rows.append([
            pair["target"], "equal" if exact else _number(pair["sqnr_db"], "{:.1f} dB"),
            _number(pair["cosine"], "{:.6f}"), _number(pair["max_abs"], "{:.3g}"), counted, wanted,
            "PASS" if pair["passed"] else "FAIL",
        ])  # fmt: skip
    return rows


def _number(value: float | None, form: str) -> str:
    return "not a number" if value is None else form.format(value)


def _ms(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['median']:.2f}"


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} MB"
