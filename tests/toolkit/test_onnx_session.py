"""ONNX Runtime sessions: called as a model, on the provider that was asked for or not at all."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from targets import _onnx
from targets.base import TargetUnavailable, UsageError
from toolkit.onnx_session import open_session

IDS = torch.tensor([[5, 6, 7], [8, 9, 0]])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """logits = float(input_ids · attention_mask), twice_logits = 2 · logits"""
    shape = ["batch", "sequence"]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"]),
        helper.make_node("Cast", ["masked"], ["logits"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["logits", "logits"], ["twice_logits"]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("logits", "twice_logits")]
    graph = helper.make_graph(nodes, "masked", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path / "masked.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("provider", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_session_is_called_as_the_model(file: Path, provider: str) -> None:
    model = open_session(file, provider, threads=1)
    found = model(input_ids=IDS, attention_mask=(IDS > 6).long(), token_type_ids=torch.zeros_like(IDS))
    assert torch.equal(found.logits, torch.tensor([[0.0, 0, 7], [8, 9, 0]]))
    assert torch.equal(found.twice_logits, 2 * found.logits) and list(found) == ["logits", "twice_logits"]
    assert torch.equal(model(IDS).logits, IDS.float())  # a mask that is left out is all ones
    assert torch.equal(model(IDS.t().int()).logits, IDS.t().float())  # a view, of narrower integers


def test_who_runs_how_many_nodes_is_known(file: Path) -> None:
    model = open_session(file)
    assert model.provider == "CPUExecutionProvider" and model.nodes == {"CPUExecutionProvider": 3}


def test_a_call_that_the_file_has_no_use_for_is_refused(file: Path) -> None:
    model = open_session(file)
    with pytest.raises(UsageError, match="without input_ids"):
        model(attention_mask=IDS)
    with pytest.raises(UsageError, match="got also labels"):
        model(IDS, labels=IDS)


def test_a_provider_is_never_substituted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetUnavailable, match="has no provider Nowhere; it has .*CPUExecutionProvider"):
        open_session(file, "Nowhere")
    # one that is listed and then dropped in silence, as those whose library does not load
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["DroppedExecutionProvider"])
    with pytest.raises(TargetUnavailable, match="DroppedExecutionProvider"), pytest.warns(UserWarning):
        open_session(file, "dropped")


def test_what_cannot_be_opened_is_said_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetUnavailable, match="there is no file"):
        open_session(file.with_name("none.onnx"))
    file.write_bytes(b"not a model")
    with pytest.raises(TargetUnavailable, match="can't open masked.onnx"):
        open_session(file)
    monkeypatch.setattr(_onnx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetUnavailable, match="onnxruntime is not installed"):
        open_session(file)
