"""What a graph's report says: what was kept in float, and why; what ran; how it was calibrated."""

import pytest
import torch

from tests import tiny
from toolkit import Recipe, report_of, transform

LINEARS = 13  # of the tiny BERT
KEYS_AND_QUERIES = [f"bert.encoder.layer.{i}.attention.self.{n}" for i in "01" for n in ("key", "query")]


@pytest.mark.parametrize(
    "keep, kept",
    [
        ((), []),
        (("*.layer.1.output.dense",), ["bert.encoder.layer.1.output.dense"]),
        (("*.self.[kq]*", "qa_outputs"), [*KEYS_AND_QUERIES, "qa_outputs"]),
        (("*",), None),
    ],
    ids=["none", "one", "several", "all"],
)
def test_keep_patterns(keep, kept):
    graph = transform(tiny.build("bert"), Recipe("int", keep=keep))
    report = report_of(graph)
    names = [entry["name"] for entry in report.kept]
    assert len(names) == LINEARS if kept is None else names == kept
    assert report.swapped == LINEARS - len(names)
    assert all("the recipe keeps" in entry["why"] for entry in report.kept)
    assert all(type(graph.get_submodule(name)) is torch.nn.Linear for name in names)


def test_report_as_json():
    model = tiny.build("bert")
    report = report_of(transform(model, Recipe("int"), target="aie")).as_json()
    keys = {"target", "precision", "scheme", "swapped", "kept", "fused", "calibration", "equalized", "quantizer"}
    keys |= {"terms", "schemes", "weights", "missed"}
    assert report.keys() == keys
    assert list(report["target"]) == ["requested", "executed", "native", "device", "isa", "reason"]
    assert report["target"]["requested"] == "aie" and report["target"]["executed"] == "aie-emulated"
    assert report["target"]["native"] is False and "emulated" in report["target"]["reason"]
    assert report["scheme"] == "dynamic" and report["calibration"] is None
    data = [tiny.inputs(model, 4, 30, seed) for seed in (5, 6)]
    static = report_of(transform(model, Recipe("int", scheme="static"), target="aie", data=data)).as_json()
    calibration = {"ranges": "percentile", "percentile": 99.999, "symmetric": False, "batches": 2, "tokens": 220}
    assert static["scheme"] == "static" and static["calibration"] == calibration
    assert report["kept"] == [{"name": "qa_outputs", "precision": "fp", "why": "the recipe keeps 'qa_outputs'"}]
