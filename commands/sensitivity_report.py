"""What `sensitivity` found, as JSON, as a table and in a few lines."""

import math
from dataclasses import asdict
from os.path import commonprefix
from typing import Any

from rich.table import Table

from commands.sample import Sample
from toolkit.sensitivity import Found, Goal, LayerCost, Score, Variants

Singles = dict[str, tuple[Score, Score]]


def as_json(
    sample: Sample, variants: Variants, costs: list[LayerCost], outputs: tuple[float, float], singles: Singles,
    found: Found, goal: Goal,
) -> dict[str, Any]:  # fmt: skip
    """→ "reference"; "logits_db" (all in int) and "float_logits_db" (none in int, on the target); "layers"; "repair":
    plain numbers, strings and lists.

    Shares are of the multiply-adds of all linears, 0 to 1. What was not measured is null, and so are dB where nothing
    differs.
    """
    work = {cost.name: cost.share for cost in costs}
    tried = [
        {"kept": len(names), "share": sum(work[name] for name in names), **asdict(score)}
        for names, score in found.tried
    ]
    return {
        "reference": {"questions": len(sample.examples), "f1": sample.expected_f1()},
        "logits_db": _finite(outputs[0]),
        "float_logits_db": _finite(outputs[1]),
        "layers": [_layer(cost, singles.get(cost.name), variants.keep_as, found) for cost in costs],
        "repair": {
            "goal": asdict(goal),
            "reached": found.reached,
            "keep_as": variants.keep_as,
            "kept": list(found.names),
            "share": sum(work[name] for name in found.names),
            "in_int": sum(work.values())
            - (0 if variants.keep_as == "int16" else sum(work[name] for name in found.names)),
            **asdict(found.score),
            "tried": tried,
        },
    }


def _layer(cost: LayerCost, single: tuple[Score, Score] | None, keep_as: str, found: Found) -> dict[str, Any]:
    alone, spared = single or (None, None)
    return {
        **{key: _finite(value) for key, value in asdict(cost).items()},
        "precision": keep_as if cost.name in found.names else "int",
        "changed": alone and alone.changed,
        "drop": alone and alone.drop,
        "spared_changed": spared and spared.changed,
        "spared_drop": spared and spared.drop,
    }


def summary(result: dict[str, Any]) -> list[str]:
    """→ what was measured and what the recipe brings, a line each; they stand above the recipe in its file"""
    repair, reference, target = result["repair"], result["reference"], result["target"]["requested"]
    before = repair["tried"][0]
    goal = f"F1 drop of at most {repair['goal']['max_drop']}"
    if repair["goal"]["min_equal"] is not None:
        goal += f" and {repair['goal']['min_equal']}% of the answers equal"
    return [
        f"{result['model']} on {target}: {reference['questions']} questions spread evenly over {result['data']}, "
        f"float F1 {reference['f1']:.3f}",
        f"all in int: {_scored(before)}, outputs at {_db(result['logits_db'])} dB "
        f"({_db(result['float_logits_db'])} with none in int)",
        f"{len(repair['kept'])} of {len(result['layers'])} linears kept in {repair['keep_as']}: {_scored(repair)}; "
        f"{repair['in_int']:.1%} of the multiply-adds of the linears in 8 bits",
        f"goal: {goal}; {'reached' if repair['reached'] else 'not reached, this is the best that was found'}",
    ]


def _scored(score: dict[str, Any]) -> str:
    return (
        f"F1 {score['f1']:.3f}, drop {score['drop']:+.3f}, {score['equal']:.2f}% of the answers equal "
        f"({score['changed']} changed)"
    )


def table(result: dict[str, Any]) -> Table:
    """→ a row a linear, coloured where the recipe keeps it; names without the beginning that they share"""
    shown = Table(box=None, header_style="bold")
    layers = result["layers"]
    begin = _shared([layer["name"] for layer in layers])
    asked = any(layer["changed"] is not None for layer in layers)
    shown.add_column(f"{begin}*", no_wrap=True)
    headings = ["work", "own dB", "cosine", "alone dB", "spared dB"]
    headings += ["alone: changed, F1", "spared: changed, F1"] * asked
    for heading in [*headings, "recipe"]:
        shown.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        answers = [_answers(layer[f"{which}changed"], layer[f"{which}drop"]) for which in ("", "spared_") if asked]
        shown.add_row(
            layer["name"].removeprefix(begin), f"{layer['share']:.1%}", _db(layer["sqnr_db"]), f"{layer['cosine']:.5f}",
            _db(layer["logits_db"]), _db(layer["spared_db"]), *answers, layer["precision"],
            style="" if layer["precision"] == "int" else "yellow",
        )  # fmt: skip
    return shown


def _shared(names: list[str]) -> str:
    """→ what all names begin with, up to a dot"""
    return commonprefix(names).rpartition(".")[0] + "." if len(names) > 1 and "." in commonprefix(names) else ""


def _answers(changed: int, drop: float) -> str:
    """Answers that changed, and by how much F1 rose or fell"""
    return f"{changed} {0.0 - drop:+7.2f}"  # not -drop: of nothing that is -0.00


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(value, float) and math.isinf(value) else value


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"
