"""The real NPU: ONNX Runtime's Vitis AI provider compiles a file for it, keeps what it compiled, and runs it there.

Written by AMD's documentation of the provider, and tested against a stand-in: never run on the hardware.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from targets._hardware import pci_ids
from targets._json import parse_json
from targets._native import Session
from targets._onnx import Settings, open_file
from targets.base import NotNative, TargetUnavailable, UsageError

PROVIDER = "VitisAIExecutionProvider"
TARGETS = {"1022:1502": "X1", "1022:17f0": "X2"}  # what the provider calls the generations
REPORT = "XLNX_ONNX_EP_REPORT_FILE"  # the provider writes, into its cache, how many nodes it gave to whom
REPORT_NAME = "vitisai_ep_report.json"
LIMIT, CONFIG, XCLBIN = "OPSWAP_AIE_COMPILE_SECONDS", "OPSWAP_AIE_CONFIG", "OPSWAP_AIE_XCLBIN"
DEFAULT_LIMIT = 1800.0  # a first compilation takes minutes


def open_native(path: Path, cache: Path, strict: bool) -> Session:
    """path: an ONNX file; cache: a folder for what is compiled, by the file's content; strict: no node on the CPU.

    Compilation is another process, which is ended at OPSWAP_AIE_COMPILE_SECONDS. Raises TargetUnavailable (NotNative
    where strict and nodes are left to the CPU) with the reason.
    """
    key = f"{path.stem}-{_digest(path)}"
    settings = Settings(PROVIDER, options(cache, key), strict=strict)
    os.environ[REPORT] = REPORT_NAME
    compile_file(path, settings, limit())
    opened = open_file(path, settings)
    nodes = report(cache / key / REPORT_NAME) or opened.nodes
    on_cpu = sum(count for name, count in nodes.items() if name.upper().startswith("CPU"))
    if strict and on_cpu:
        raise NotNative(f"the Vitis AI provider leaves {on_cpu} nodes to the CPU ({_words(nodes)}); leave out strict")
    return Session(opened.run, nodes, f"nodes by the provider's report: {_words(nodes)}")


def options(cache: Path, key: str) -> dict[str, str]:
    """→ the provider's options for the NPU that is here: cache_dir, cache_key, target, and config_file and xclbin
    where OPSWAP_AIE_CONFIG and OPSWAP_AIE_XCLBIN name them. Raises TargetUnavailable where XDNA has no xclbin."""
    target = next((name for device, name in TARGETS.items() if device in pci_ids()), "X2")
    found = {"cache_dir": str(cache), "cache_key": key, "target": target}
    for option, variable in (("config_file", CONFIG), ("xclbin", XCLBIN)):
        given = os.environ.get(variable)
        if given and not Path(given).is_file():
            raise UsageError(f"{variable} names {given}, which is no file: correct it")
        if given:
            found[option] = given
    if target == "X1" and "xclbin" not in found:
        raise TargetUnavailable(f"XDNA wants its xclbin: set {XCLBIN} to the file of the Ryzen AI installation")
    return found


def limit() -> float:
    """→ seconds. Raises UsageError for an OPSWAP_AIE_COMPILE_SECONDS that is no number above 0."""
    given = os.environ.get(LIMIT) or str(DEFAULT_LIMIT)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{LIMIT} must be a number of seconds above 0; got {given!r}")
    return seconds


def compile_file(path: Path, settings: Settings, seconds: float) -> None:
    """Opens the file once in a process of its own, which fills the cache. Raises TargetUnavailable when it takes
    longer than `seconds`, or fails."""
    asked = json.dumps({"path": str(path), "options": dict(settings.options), "strict": settings.strict})
    home = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, sys.path)])}
    try:
        code, said = run_at_most(seconds, [sys.executable, "-m", "targets.aie.native"], asked, environment)
    except subprocess.TimeoutExpired as error:
        raise TargetUnavailable(
            f"the NPU's compiler was ended after {seconds:g} s without a result: raise {LIMIT}"
        ) from error
    if code:
        lines = [line for line in said.splitlines() if line.strip()] or [f"exit code {code}"]
        raise TargetUnavailable(f"the NPU's compiler failed: {lines[-1]}")


def run_at_most(seconds: float, command: list[str], given: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """→ exit code and standard error of `command`, which reads `given`

    Raises subprocess.TimeoutExpired after `seconds`. No process that it started outlives it: a compiler starts more,
    and they would keep the pipe open, and this process waiting.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(given, timeout=seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):  # all are done
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, said


def report(path: Path) -> dict[str, int]:
    """→ {"NPU": nodes, "CPU": nodes, ...} of the provider's report; {} where it wrote none, or one of another form"""
    try:
        found = parse_json(path.read_text("utf-8"))["deviceStat"]
        return {str(entry["name"]): int(entry["nodeNum"]) for entry in found if entry["name"] != "all"}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _words(nodes: dict[str, int]) -> str:
    return ", ".join(f"{count} on {name}" for name, count in nodes.items()) or "it wrote none"


def _digest(path: Path) -> str:
    """Of the file and of the weights beside it"""
    digest = hashlib.sha256(path.read_bytes())
    for data in sorted(path.parent.glob(f"{path.stem}-*.data")):
        digest.update(data.name.encode())  # which is made of its content
    return digest.hexdigest()[:16]


def _compile() -> None:
    asked = json.loads(sys.stdin.read())
    open_file(Path(asked["path"]), Settings(PROVIDER, asked["options"], strict=asked["strict"]))


if __name__ == "__main__":
    try:
        _compile()
    except TargetUnavailable as why:
        sys.exit(str(why))
