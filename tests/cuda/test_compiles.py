"""The kernels compile for real GPUs, to the matrix units' instructions and without a spill: no GPU is needed."""

import json
import os
import subprocess
import sys

import pytest

INSTRUCTIONS = {
    "80": ("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32", None),
    "89": ("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32", ".e4m3.e4m3.f32"),
    "90": ("wgmma.mma_async.sync.aligned", "wgmma.mma_async.sync.aligned"),
}

CHIPS = (*INSTRUCTIONS, "120")


def compiled(chip: str, which: str, folder: object) -> list[dict]:
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.cuda.compiling", chip, which]
    done = subprocess.run(
        command, env={**env, "TRITON_CACHE_DIR": str(folder)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("chip", INSTRUCTIONS)
def test_linears(chip, tmp_path):
    found = compiled(chip, "linears", tmp_path)
    int8, fp8 = INSTRUCTIONS[chip]
    wanted = {"_linear_int8_kernel": int8, "_linear_w8_kernel": ".tf32"}
    wanted |= {"_linear_fp8_kernel": fp8} if fp8 else {}
    assert {entry["kernel"] for entry in found} == set(wanted)
    for entry in found:
        assert entry["stack"] == 0, entry
        assert entry["matrix"] and all(wanted[entry["kernel"]] in name for name in entry["matrix"]), entry


def test_rows(tmp_path):
    found = compiled("90", "rows", tmp_path)
    assert {entry["kernel"] for entry in found} == {"_rows_kernel", "_norm_kernel", "_embed_kernel"}
    assert all(entry["stack"] == 0 for entry in found)


@pytest.mark.parametrize("chip", CHIPS)
def test_rows_that_are_rotated(chip, tmp_path):
    """A product that became part of a sum would not be rounded, and shared memory has no room for the widest row."""
    found = compiled(chip, "rotated", tmp_path)
    kernels = ["_rows_kernel", "_rows_kernel", "_norm_kernel", "_embed_kernel", "_gate_kernel"]
    assert [entry["kernel"] for entry in found] == kernels
    assert all(entry["stack"] == 0 and entry["fma"] == 0 for entry in found)
    assert found[-1]["shared"] < 1024


@pytest.mark.parametrize("chip", CHIPS)
def test_gates(chip, tmp_path):
    found = compiled(chip, "gates", tmp_path)
    assert {entry["kernel"] for entry in found} == {"_gate_kernel"}
    assert all(entry["stack"] == 0 for entry in found)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_rotations_products_are_rounded_by_themselves(chip, tmp_path):
    found = compiled(chip, "rotary", tmp_path)
    assert len(found) == 3 and all(entry["kernel"] == "_rotary_kernel" for entry in found)
    assert all(entry["stack"] == 0 and entry["fma"] == 0 for entry in found)
