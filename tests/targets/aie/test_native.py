"""The road to the real NPU, on a stand-in for ONNX Runtime with its provider: nobody here has the hardware."""

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime
import pytest

import targets
from targets import aie
from targets.aie import native, plan
from targets.base import NotNative, TargetUnavailable, UsageError
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from toolkit import Recipe, report_of, transform
from toolkit.pipeline import captured
from toolkit.sensitivity import Variants

REAL = onnxruntime
STANDIN = Path(__file__).parent / "standin"
XDNA, XDNA2 = "1022:1502", "1022:17f0"
INT = Recipe(precision="int")


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine with an XDNA2 NPU and the provider for it. → the stand-in for onnxruntime"""
    monkeypatch.syspath_prepend(str(STANDIN))
    monkeypatch.delitem(sys.modules, "onnxruntime")
    import onnxruntime as standin

    monkeypatch.setitem(sys.modules, "onnxruntime", standin)  # the real one is put back at the end
    monkeypatch.setattr(standin, "REAL", REAL)
    monkeypatch.setattr(aie, "DEVICE_NODE", tmp_path)
    for module in (aie, native):
        monkeypatch.setattr(module, "pci_ids", lambda: frozenset({XDNA2}))
    monkeypatch.setenv("OPSWAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(native.REPORT, native.REPORT_NAME)
    return standin


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    return path


def test_with_provider_and_device_the_target_is_native(npu) -> None:
    assert targets.diagnose("aie") == {"available": True, "native": True, "reason": None}


@pytest.mark.parametrize("left", [3, 0])
def test_a_model_runs_on_the_npu_and_the_report_says_where(npu, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    monkeypatch.setenv("STANDIN", f"cpu={left}")
    model = tiny.build("bert")
    graph = transform(model, INT, "aie")
    inputs = tiny.inputs(model, 3, 11)
    got, want = graph(**inputs), transform(model, INT, "cpu")(**inputs)
    assert type(got) is type(want)
    assert_sqnr(got.start_logits, want.start_logits, 35.0)
    found = report_of(graph)
    assert found.swapped == 12 and [entry["name"] for entry in found.kept] == ["qa_outputs"]
    assert found.target | {"reason": None} == {
        "requested": "aie", "executed": "aie", "native": True, "device": "XDNA2 (Strix, Krackan)",
        "isa": "VitisAIExecutionProvider", "reason": None,
    }  # fmt: skip
    assert str(found.target["reason"]).endswith(f"{left} on CPU, {100 - left} on NPU")
    given, entries = npu.OPENED[-1]
    assert given["target"] == "X2" and given["cache_key"].startswith("BertForQuestionAnswering-")
    assert "session.disable_cpu_ep_fallback" not in entries
    if left:
        with pytest.raises(NotNative, match="leaves 3 nodes to the CPU"):
            transform(model, INT, "aie", strict=True)
        assert npu.OPENED[-1][1]["session.disable_cpu_ep_fallback"] == "1"


def test_a_copy_calls_the_same_session(npu) -> None:
    """What was compiled for minutes has nothing that changes."""
    model = tiny.build("bert")
    graph, inputs = transform(model, INT, "aie"), tiny.inputs(model, 3, 11)
    opened = len(npu.OPENED)
    other = copy.deepcopy(graph)
    assert_equal_bits(other(**inputs).start_logits, graph(**inputs).start_logits)
    assert report_of(other) == report_of(graph) and len(npu.OPENED) == opened


def test_the_plan_is_of_the_linears_here_too(npu) -> None:
    """A session hides them: the plan of a laptop with an NPU would have found nothing to do."""
    model = tiny.build("bert")
    graph = transform(model, INT, "aie", native=False)
    assert npu.OPENED == [] and report_of(graph).target["executed"] == "aie-emulated"
    work = plan.observe(graph, tiny.inputs(model, 2, 9), attention=1)
    assert len(work.calls) == 8
    assert "its device was not asked for" in str(report_of(graph).target["reason"])


def test_sensitivity_compiles_none_of_its_graphs(npu) -> None:
    """A graph a linear and more: each would be compiled for minutes, for the integers that the emulation has."""
    variants = Variants.of(captured(tiny.build("bert")), INT, "aie", "bf16")
    made = [variants.whole(), variants.none(), variants.alone(variants.names[0]), variants.without(variants.names[:1])]
    assert npu.OPENED == []
    assert {report_of(graph).target["executed"] for graph in made} == {"aie-emulated"}


@pytest.mark.parametrize(("behaviour", "said"), [
    ("broken", "the NPU's compiler failed: .*no kernel for this node"),
    ("dropped", "VitisAIExecutionProvider was asked for, and the session has"),
])  # fmt: skip
def test_what_cannot_run_there_is_emulated_and_said(
    npu, monkeypatch: pytest.MonkeyPatch, behaviour: str, said: str
) -> None:
    monkeypatch.setenv("STANDIN", behaviour)
    model = tiny.build("bert")
    graph = transform(model, INT, "aie")
    target = report_of(graph).target
    assert target["executed"] == "aie-emulated" and not target["native"]
    with pytest.raises(NotNative, match=said):
        transform(model, INT, "aie", strict=True)
    inputs = tiny.inputs(model, 2, 9)
    real = inputs["attention_mask"].bool()  # the others are dropped
    assert_sqnr(graph(**inputs).end_logits[real], transform(model, INT, "cpu")(**inputs).end_logits[real], 35.0)


def test_a_compiler_that_hangs_is_ended(npu, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN", "slow")
    monkeypatch.setenv(native.LIMIT, "0.2")
    with pytest.raises(TargetUnavailable, match=f"ended after 0.2 s without a result: raise {native.LIMIT}"):
        native.open_native(file, file.parent / "cache", strict=False)


@pytest.mark.parametrize("then", ["sleep 600", "exit 0"], ids=["and waits", "and leaves it behind"])
def test_what_a_compiler_started_is_ended_with_it(tmp_path: Path, then: str) -> None:
    started = tmp_path / "started"
    seconds = 0.25
    while not (started.exists() and started.read_text()):  # the shell was not yet that far: with more time once more
        seconds *= 2
        with pytest.raises(subprocess.TimeoutExpired):
            native.run_at_most(seconds, ["sh", "-c", f"sleep 600 & echo $! > {started}; {then}"], "", os.environ)
    for _ in range(1000):  # the signal is on its way
        if not runs(started.read_text().strip()):
            break
        time.sleep(0.01)
    assert not runs(started.read_text().strip())


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("value", ["0", "soon", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(native.LIMIT, value)
    with pytest.raises(UsageError, match="must be a number of seconds"):
        native.limit()


def test_options_go_by_the_device(npu, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"cache_dir": str(file.parent), "cache_key": "key"}
    assert native.options(file.parent, "key") == {**plain, "target": "X2"}
    monkeypatch.setenv(native.CONFIG, str(file))
    assert native.options(file.parent, "key") == {**plain, "target": "X2", "config_file": str(file)}
    monkeypatch.delenv(native.CONFIG)
    monkeypatch.setattr(native, "pci_ids", lambda: frozenset({XDNA}))
    with pytest.raises(TargetUnavailable, match=f"set {native.XCLBIN}"):
        native.options(file.parent, "key")
    monkeypatch.setenv(native.XCLBIN, str(file))
    assert native.options(file.parent, "key") == {**plain, "target": "X1", "xclbin": str(file)}
    monkeypatch.setenv(native.XCLBIN, "nowhere")
    with pytest.raises(UsageError, match="names nowhere, which is no file"):
        native.options(file.parent, "key")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[" * 100_000, '{"deviceStat": [{"name": "NPU"}]}'])
def test_a_report_of_another_form_is_no_report(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    assert native.report(path) == {}
    path.write_text(text)
    assert native.report(path) == {}
