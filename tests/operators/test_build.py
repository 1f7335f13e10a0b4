"""Building and choosing kernels, in processes of their own: no compiler, a broken one, forcing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from operators import build, kernels

ROOT = Path(__file__).parents[2]
ANSWER = """
import torch
from operators import kernels, reference, quantize_weight, weight_sum
kernels.load()
kernels.load()
q, scale = quantize_weight(torch.randn(70, 33))
args = torch.randn(5, 33), reference.pack_weight(q), weight_sum(q), scale, None, True
assert torch.equal(torch.ops.opswap.linear_int8(*args), reference.linear_int8(*args))
status = kernels.status()
print(status.isa, status.compiled, status.reason, sep="|")
"""


def start(**environment: str) -> subprocess.Popen:
    env = {**os.environ, "OPSWAP_ISA": "", **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", ANSWER], env=env, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def run(**environment: str) -> tuple[int, str, list[str]]:
    """Exit status, what it printed, and its lines on standard error."""
    process = start(**environment)
    out, err = process.communicate(timeout=600)
    return process.returncode, out.strip(), err.strip().splitlines()


def test_kernels_are_built() -> None:
    status = kernels.status()
    assert status.compiled, status.reason
    assert status.isa in status.built and status.built[-1] == "portable"


def test_one_list() -> None:
    text = (build.SOURCES / "kernels.inc").read_text()
    assert [isa for isa in kernels.status().built if f"KERNELS({isa}," not in text] == []


def test_without_a_compiler_the_reference_serves_loudly(tmp_path: Path) -> None:
    code, out, err = run(CXX="/nonexistent", OPSWAP_CACHE=str(tmp_path))
    assert code == 0, err
    assert out.startswith("reference|False|no C++ compiler: /nonexistent: ")
    assert len(err) == 1 and err[0].startswith("opswap: SLOW: ") and "/nonexistent" in err[0]


def test_a_library_that_cannot_be_loaded_is_said_and_the_reference_serves(tmp_path: Path) -> None:
    """As on a file system that no code may run from."""
    (tmp_path / f"kernels-{build._key(build.compiler())}.so").touch()
    code, out, err = run(OPSWAP_CACHE=str(tmp_path))
    assert code == 0 and out.startswith("reference|False|the kernels cannot be loaded: "), err
    assert len(err) == 1 and "set OPSWAP_CACHE to a folder that code may run from" in err[0]


def test_a_broken_compiler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("OPSWAP_CACHE", str(tmp_path))
    with pytest.raises(build.BuildError, match="^false failed: ") as error:
        build.build()
    assert "\n" not in str(error.value)


def test_code_that_does_not_compile_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "wrong.cpp").write_text("int f( {")
    monkeypatch.setattr(build, "SOURCES", tmp_path / "csrc")
    monkeypatch.setenv("OPSWAP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match="wrong.cpp:1.* error: .*; for all of it: python -m") as error:
        build.build()
    assert "\n" not in str(error.value) and "wrong.cpp" in error.value.log
    assert not list((tmp_path / "cache").iterdir()), "nothing is left behind"


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_at_a_terminal_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setenv("OPSWAP_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_build", lambda command, library: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    build.build()
    assert capsys.readouterr().err == ("opswap: compiling the kernels for this CPU, once\n" if terminal else "")


@pytest.mark.parametrize("isa", ["portable", "reference"])
def test_forced(isa: str) -> None:
    compiled = isa != "reference"
    assert run(OPSWAP_ISA=isa) == (0, f"{isa}|{compiled}|OPSWAP_ISA={isa}", [])


def test_forced_to_what_is_not_there(tmp_path: Path) -> None:
    code, _, err = run(OPSWAP_ISA="abacus")
    assert code == 1 and "NoSuchKernels: OPSWAP_ISA=abacus: there is no such kernel; name one of " in err[-1]
    assert err[-1].endswith(", portable, reference"), "all that it takes"
    code, _, err = run(OPSWAP_ISA="portable", CXX="/nonexistent", OPSWAP_CACHE=str(tmp_path))
    assert code == 1 and "OPSWAP_ISA=portable needs compiled kernels: no C++ compiler: /nonexistent" in err[-1]


def test_use_refuses_what_is_not_there() -> None:
    with pytest.raises(kernels.NoSuchKernels, match="there is no such kernel; name one of .*portable$"):
        kernels.use("abacus")


def test_forcing_ends() -> None:
    before = kernels.forced()
    try:
        kernels.use("portable")
        assert (kernels.forced(), kernels.status().isa) == ("portable", "portable")
        kernels.use(None)
        status = kernels.status()
        assert (kernels.forced(), status.isa, status.reason) == (None, kernels.runnable()[0], None)
    finally:
        kernels.use(before)


def test_the_best_one_by_its_name_is_forced_too() -> None:
    """It holds floats and attention back where their best goes with a better one than this CPU can run for bytes."""
    before, best = kernels.forced(), kernels.runnable()[0]
    try:
        kernels.use(best)
        assert (kernels.forced(), kernels.status().reason) == (best, f"kernels.use({best!r})")
    finally:
        kernels.use(before)


def test_files_for_one_instruction_set_include_no_library() -> None:
    special = [path for path in build.SOURCES.glob("*.cpp") if path.read_text().startswith("// build:")]
    assert len(special) > 10
    todo = [*special, *build.SOURCES.glob("*_portable.cpp")]
    seen = set(todo)
    while todo:
        source = todo.pop()
        included = re.findall(r"^#include (.*)$", source.read_text(), re.MULTILINE)
        for name in included:
            ours = build.SOURCES / name.strip('"')
            assert ours.exists() or name in ("<immintrin.h>", "<stdint.h>", "<string.h>"), f"{source.name}: {name}"
            if ours.exists() and ours not in seen:
                seen.add(ours)
                todo.append(ours)
