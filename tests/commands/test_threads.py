"""What PyTorch's thread pool reads when torch is imported is there by then."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli import Cli

# says what the environment is when torch is first looked for
PROGRAM = """
import json, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            wanted = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")
            print(json.dumps({name: os.environ.get(name) for name in wanted}), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
import run
run.entry()
"""


def seen(*arguments: str, **environment: str) -> dict[str, str | None]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env={**kept, **environment}, capture_output=True,
                          text=True, check=True, stdin=subprocess.DEVNULL)  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "arguments, threads, spins",
    [
        (["--target", "customcpu", "--threads", "3", "eval"], "3", "1000"),
        (["--target", "customcpu"], None, "1000"),
        (["--target", "cpu", "--threads", "1", "eval"], "1", None),
        (["--target", "customcpu", "bench", "--iterations", "3"], None, "1000"),
        (["--target", "customcpu", "bench", "--peers"], None, None),
        (["--target", "customcpu", "bench", "--peer=onnx*"], None, None),
    ],
    ids=["own threads", "without a command", "stock threads", "bench", "beside peers", "beside one peer"],
)
def test_before_torch(arguments: list[str], threads: str | None, spins: str | None) -> None:
    assert seen(*arguments) == {"OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": spins}


@pytest.mark.parametrize("name, spins", [("GOMP_SPINCOUNT", "5"), ("OMP_WAIT_POLICY", None)])
def test_what_a_person_set_stays(name: str, spins: str | None) -> None:
    found = seen("--target", "customcpu", "eval", **{name: spins or "active"})
    assert found["GOMP_SPINCOUNT"] == spins


@pytest.mark.parametrize("threads", ["0", "99999"])
def test_more_threads_than_any_machine_has_a_use_for(cli: Cli, threads: str) -> None:
    refused = cli("--threads", threads, "doctor")
    most = max(256, 4 * (os.cpu_count() or 1))
    assert refused.code == 2 and f"{threads} is not in the range 1<=x<={most}." in refused.err


def test_more_threads_than_cores(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which is set again after the test
    assert cli("--threads", str((os.cpu_count() or 1) + 1), "doctor").code == 0
