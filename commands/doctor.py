"""`doctor`: what each target can do on this machine, and why."""

import importlib.metadata
import platform
from typing import Any

import click
from rich.table import Table

import targets
from commands.common import Options, out, print_json, refuse
from operators import kernels
from targets import _devices
from targets._hardware import cpu_name

PACKAGES = (
    "torch",
    "transformers",
    "safetensors",
    "onnx",
    "onnxruntime",
    "neural-compressor-pt",
    "torchao",
    "triton",
)
TAKEN = {"target", "threads", "as_json"}  # options before the command that it takes


@click.command("doctor")
@click.pass_obj
def command(options: Options) -> None:
    """What each target can do on this machine, and why."""
    refuse(options.given, sorted(options.given - TAKEN), "is for commands that run a model, and doctor runs none")
    targets.get(options.target)
    kernels.load()
    status = kernels.status()
    found = {name: targets.diagnose(name) for name in targets.names()}
    devices = _devices.diagnose()
    if options.json:
        print_json(
            {
                "target": not_run(options.target),
                "model": options.model,
                "precision": options.precision,
                "scheme": options.scheme,
                "targets": found,
                "devices": devices,
                "kernels": _kernels(status),
                "versions": _versions(),
            }
        )
        return
    table = Table("target", "available", "native", "why")
    for name, entry in found.items():
        table.add_row(name, _yes(entry["available"]), _yes(entry["native"]), str(entry["reason"] or ""))
    out.print(table, soft_wrap=False)
    for name, entry in devices.items():
        out.print(f"--device {name} ({entry['what']}): {entry['device'] or entry['reason']}")
    runnable = ", ".join(kernels.runnable()) or "none"
    out.print(f"CPU: {cpu_name()}; kernels in use: {status.isa}; runnable here: {runnable}")
    if status.reason:
        out.print(f"kernels: {status.reason}")
    out.print(", ".join(f"{name} {version or 'not installed'}" for name, version in _versions().items()))


def not_run(name: str) -> dict[str, Any]:
    """→ "target" in the JSON of a command that runs nothing on it: "executed" is null, "native" what it would be"""
    kernels.load()  # before that the status says what the Python reference is called
    found = targets.diagnose(name)
    ran = {"requested": name, "executed": None, "device": cpu_name(), "isa": kernels.status().isa}
    return {**ran, "native": found["native"], "reason": found["reason"]}


def _kernels(status: kernels.KernelStatus) -> dict[str, Any]:
    return {
        "compiled": status.compiled,
        "isa": status.isa,
        "built": list(status.built),
        "runnable": list(kernels.runnable()),
        "reason": status.reason,
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _yes(value: object) -> str:
    return "yes" if value else "no"
