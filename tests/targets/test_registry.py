"""The folder is the registry, targets are imported on demand, and each says how it runs here."""

import subprocess
import sys
from pathlib import Path

import pytest

import targets
from targets import _hardware, aie
from targets.base import Execution, Target, require_runnable

KNOWN = ("aie", "cpu", "cuda", "customcpu", "hpu")


def test_names_are_the_folder():
    assert targets.names() == KNOWN


def test_listing_imports_no_target():
    code = "import sys, targets; print([n for n in targets.names() if 'targets.' + n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", KNOWN)
def test_each_target_describes_itself(name):
    target = targets.get(name)
    assert target.name == name
    found = targets.diagnose(name)
    assert found.keys() == {"available", "native", "reason"}
    assert found["native"] or found["reason"]
    for precision in target.precisions:
        execution = target.execution(precision)
        assert execution.native or execution.reason
        assert execution.device and execution.isa


@pytest.mark.parametrize("name", ["base", "_linear", "", "../cpu", "nothing"])
def test_unknown_names(name):
    with pytest.raises(targets.UsageError, match="choose one of: aie, cpu, cuda, customcpu, hpu"):
        targets.get(name)


def test_a_file_without_a_target(monkeypatch):
    monkeypatch.setattr("targets.cpu.TARGET", "cpu")
    with pytest.raises(TypeError, match="must be a Target; got str"):
        targets.get("cpu")


def made(native: bool) -> Target:
    execution = Execution("there", native, "device", "isa", None if native else "no hardware")
    return Target("here", ("int",), lambda graph, recipe: None, lambda precision: execution)


def test_require_runnable():
    assert require_runnable(made(True), "int", strict=True).native
    assert not require_runnable(made(False), "int", strict=False).native
    with pytest.raises(targets.NotNative, match="no hardware"):
        require_runnable(made(False), "int", strict=True)


@pytest.mark.parametrize("status, executed, native", [("avx2", "customcpu", True), ("reference", "reference", False)])
def test_customcpu_says_what_its_kernels_are(monkeypatch, status, executed, native):
    from operators import kernels
    from targets import customcpu

    reason = None if native else "no compiler"
    fake = kernels.KernelStatus(compiled=native, isa=status, built=(), reason=reason)
    monkeypatch.setattr(kernels, "load", lambda: None)
    monkeypatch.setattr(kernels, "status", lambda: fake)
    execution = customcpu.execution("int")
    assert (execution.executed, execution.isa, execution.native) == (executed, status, native)
    assert execution.reason == reason


def test_aie_is_native_where_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(aie, "missing", list)
    assert aie.execution("int").native and aie.execution("int").reason is None
    monkeypatch.setattr(aie, "missing", lambda: ["no driver"])
    execution = aie.execution("int")
    assert execution.executed == "aie-emulated" and not execution.native and "no driver" in str(execution.reason)


def test_aie_finds_the_npu_by_its_pci_id(monkeypatch, tmp_path: Path):
    device = tmp_path / "pci" / "0000:c5:00.1"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1022\n")
    (device / "device").write_text("0x17f0\n")
    monkeypatch.setattr(_hardware, "PCI_DEVICES", tmp_path / "pci")
    assert _hardware.pci_ids() == {"1022:17f0"}
    assert not any("PCI" in line for line in aie.missing())
    monkeypatch.setattr(_hardware, "PCI_DEVICES", tmp_path / "none")
    assert any("PCI" in line for line in aie.missing())


def test_aie_finds_the_device_node(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(aie, "DEVICE_NODE", tmp_path / "accel0")
    assert any("accel0" in line for line in aie.missing())
    (tmp_path / "accel0").touch()
    assert not any("accel0" in line for line in aie.missing())
