"""Time by operator, and the trace."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.inputs import random_batch
from benchmarks.profiling import Event, by_operator, profile, write_trace
from models.errors import InputError
from targets._place import place
from tests.tiny import build
from toolkit import Recipe, transform


def test_every_operator_of_the_graph_is_timed() -> None:
    model = build("bert")
    graph = transform(model, Recipe(precision="int", without=("calls",)), "customcpu")
    runs = profile(graph, random_batch(model, 2, 8), calls=2, warm=1)
    assert len(runs) == 2 and [event.node for event in runs[0]] == [event.node for event in runs[1]]
    computing = [node for node in graph.graph.nodes if node.op.startswith("call_")]
    assert [event.node for event in runs[0]] == [node.name for node in computing]
    rows = by_operator(runs)
    modules = [type(graph.get_submodule(str(node.target))).__name__ for node in computing if node.op == "call_module"]
    listed = {row["operator"]: row["nodes"] for row in rows}
    for name in set(modules):
        assert listed[name] == modules.count(name)
    assert sum(row["nodes"] for row in rows) == len(computing)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.01)


def test_operators_that_are_called_as_one_are_timed_each() -> None:
    model = build("bert")
    graph = transform(model, Recipe(precision="int"), "customcpu")
    runs = profile(graph, random_batch(model, 2, 8), calls=2, warm=1)
    names = [event.operator for event in runs[0]]
    assert names.index("opswap.embed_norm") < names.index("opswap.layers_int8") and "Calls" not in names
    assert {event.shape for event in runs[0] if event.operator == "opswap.linear_float"} == {"float32[16, 2]"}


def test_a_graph_on_another_device_is_refused() -> None:
    graph = transform(build("bert"))
    place(graph, torch.device("meta"))
    with pytest.raises(InputError, match="measured on the CPU, and this graph runs on meta"):
        profile(graph, random_batch(build("bert"), 1, 8), calls=1)


def test_times_are_means_a_call_and_the_dearest_comes_first() -> None:
    first = [Event("a", "a1", 0, 1000, ""), Event("b", "b1", 1000, 4000, ""), Event("a", "a2", 5000, 1000, "")]
    second = [Event("a", "a1", 0, 3000, ""), Event("b", "b1", 1000, 6000, ""), Event("a", "a2", 5000, 1000, "")]
    assert by_operator([first, second]) == [
        {"operator": "b", "nodes": 1, "ms": 5.0, "share": 0.625},
        {"operator": "a", "nodes": 2, "ms": 3.0, "share": 0.375},
    ]


def test_the_trace_has_complete_events_from_zero(tmp_path: Path) -> None:
    file = tmp_path / "new" / "trace.json"
    write_trace([Event("a", "a1", 7000, 10, "float32[2, 3]"), Event("b", "b1", 7012.5, 4, "")], file)
    events = json.loads(file.read_text())["traceEvents"]
    assert [(event["ph"], event["name"], event["ts"], event["dur"]) for event in events] == [
        ("X", "a", 0, 10), ("X", "b", 12.5, 4),
    ]  # fmt: skip
    assert events[0]["args"] == {"node": "a1", "output": "float32[2, 3]"}
    assert [path.name for path in file.parent.iterdir()] == ["trace.json"]
