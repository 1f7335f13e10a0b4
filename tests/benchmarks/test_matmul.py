"""What `python -m benchmarks.matmul` prints; its figures: benchmarks/README.md."""

import pytest
import torch
from click.testing import CliRunner

from benchmarks import matmul
from benchmarks.matmul import in_one_call, linears, main, seconds, weights_of
from tests.checks import assert_sqnr


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_both_tables_have_a_row_for_each_shape_and_each_number_of_rows(monkeypatch):
    monkeypatch.setattr(matmul, "PAUSE", 0.0)
    monkeypatch.setattr(matmul, "WIDE", (128, 64))
    args = ["--shape", "24x64x128", "--threads", "1", "--threads", "2", "--rounds", "1", "--calls", "2"]
    done = CliRunner().invoke(main, [*args, "--megabytes", "1"])
    assert done.exit_code == 0, done.output
    rows = [cells(line) for line in done.output.splitlines() if line.startswith("| ")]
    many, few = rows[2], rows[5:]
    assert many[0] == "24, 64, 128" and len(many) == 5
    assert all(0 < float(share.rstrip("%")) <= 110 for share in many[1:])
    assert [row[0] for row in few] == [f"{m}, {t}" for m in (1, 4, 8, 16) for t in ("1 thread", "2 threads")]
    assert all(float(rate) > 0 for row in few for rate in row[1:])


def test_all_operators_multiply_the_same_weights():
    torch.manual_seed(1)
    x = torch.randn(5, 64)
    bytes_in, floats_in, weight_only = (call() for call in linears(x, weights_of(96, 64)).values())
    assert torch.equal(bytes_in, floats_in)
    assert_sqnr(floats_in, weight_only, 35)


@pytest.mark.parametrize("name", ["bytes in", "floats in", "weight only"])
def test_one_call_is_all_of_them(name):
    many = [linears(torch.randn(3, 64), weights_of(96, 64))[name] for _ in range(3)]
    (have,) = in_one_call(many)()
    assert torch.equal(have, many[-1]())


def test_the_least_of_the_calls_counts(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(matmul.time, "perf_counter", lambda: next(clock))
    called = []
    assert seconds(lambda: called.append(0), 3) == 2.0 and len(called) == 4


@pytest.mark.parametrize("shape", ["384", "1x2", "0x4x4", "ax4x4", "1x2x3x4"])
def test_a_shape_is_three_sizes(shape):
    done = CliRunner().invoke(main, ["--shape", shape])
    assert done.exit_code == 2 and f"wanted MxKxN, three sizes from 1 on; got {shape}" in done.output
