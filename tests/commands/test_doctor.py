"""`doctor` and `--help` on any machine."""

import subprocess
import sys
from pathlib import Path

import pytest

import targets
from operators import kernels
from tests.cli import Cli

ROOT = Path(__file__).parents[2]


def test_doctor_names_every_target_and_why(cli: Cli) -> None:
    found = cli("--json", "doctor").json["targets"]
    assert set(found) == set(targets.names()) == {"cpu", "customcpu", "aie", "cuda", "hpu"}
    for entry in found.values():
        assert entry["native"] or entry["reason"]
    assert found["cpu"] == {"available": True, "native": True, "reason": None}
    assert "emulated" in found["aie"]["reason"]


def test_doctor_prints_a_table(cli: Cli) -> None:
    result = cli("doctor")
    assert result.code == 0
    for word in ("aie", "cuda", "hpu", "kernels in use", "torch"):
        assert word in result.out


@pytest.mark.parametrize(
    "option",
    [("--precision", "int"), ("--scheme", "static"), ("--model", "nowhere"), ("--without", "gelu"), ("--strict",)],
    ids=lambda option: option[0],
)
def test_options_of_a_run_are_refused(cli: Cli, option: tuple[str, ...]) -> None:
    refused = cli(*option, "doctor")
    assert (refused.code, refused.out) == (2, "") and f"{option[0]} is for commands that run a model" in refused.err


def test_what_doctor_takes(cli: Cli) -> None:
    found = cli("--target", "customcpu", "--threads", "1", "--json", "doctor").json
    assert found["target"]["requested"] == "customcpu" and found["precision"] == "fp"


@pytest.mark.parametrize("variable", ["OPSWAP_ISA", "OPSWAP_GAUDI", "OPSWAP_AIE_DEVICE"])
def test_a_variable_that_names_nothing_is_wrong_usage(cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setattr(kernels, "_reason", kernels.NOT_LOADED)  # as in a process of its own, which loads them first
    monkeypatch.setenv(variable, "abacus")
    cli("doctor").fails_in_one_line(2, "abacus")


def test_help_needs_neither_torch_nor_transformers() -> None:
    script = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import run; run.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("ask", "doctor", "eval", "finetune"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "missing, command", [("click", "doctor"), ("rich", "doctor"), ("torch", "doctor"), ("transformers", "ask")]
)
def test_a_python_without_the_packages_is_one_line(missing: str, command: str) -> None:
    """As the system's, for who types `python run.py` after `make run`."""
    script = f"import sys; sys.modules[{missing!r}] = None; import run; run.entry()"
    done = subprocess.run([sys.executable, "-c", script, command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert f"has no package {missing}: `make run` sets up .venv" in done.stderr
