"""ONNX Runtime as a side of `validate`: the model exported, and the file run on a provider that is chosen by name."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click import UsageError

from commands.common import Options, err
from commands.graph import Ready, before_lowering, describe, header_of
from models.tasks import Task
from targets._hardware import cpu_name
from targets._onnx import CPU, full_name, runtime
from targets.base import NotNative, TargetUnavailable
from toolkit import checkpoint
from toolkit.export import onnx_file
from toolkit.export.about import about
from toolkit.onnx_session import OnnxModel, open_session
from toolkit.pipeline import lowered

NAME = "onnx"
REFERENCE = "cpu"  # the target whose integers the file has


def require_possible(precision: str, provider: str | None) -> None:
    """Raises UsageError for a precision that files are not written at, ExportError and TargetUnavailable for a missing
    package or provider."""
    if precision not in onnx_file.PRECISIONS:
        raise UsageError(f"onnx is written at precision {' or '.join(onnx_file.PRECISIONS)}, not {precision}")
    onnx_file.require_packages()
    full_name(provider or CPU)


def ready(options: Options, provider: str | None, task: Task) -> tuple[Ready, int]:
    """→ the session, called as a graph is, and the bytes of its file. Raises NotNative when strict and a node would run
    on the CPU instead of the provider."""
    made = before_lowering(options, task)
    header = header_of(options, lowered(checkpoint.copied(made.graph), made.recipe, REFERENCE), made.data)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(made.graph, path, about(made.graph, made.recipe, options.model))
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        try:
            session: Any = open_session(path, provider or CPU, options.threads, options.strict)
        except TargetUnavailable as why:
            if options.strict:
                raise NotNative(f"{provider or CPU} does not run all of the file: {why}; leave out --strict") from why
            raise
    header |= {"target": ran(session), "fused": {}, "missed": []}
    err.print(describe(header))
    return Ready(session, made.tokenizer, header, made.config), size


def ran(session: OnnxModel) -> dict[str, object]:
    """→ "target" in the JSON: the provider, and how many nodes another one runs"""
    elsewhere = {name: count for name, count in session.nodes.items() if name != session.provider}
    words = [f"{count} of {sum(session.nodes.values())} nodes run on {name}" for name, count in elsewhere.items()]
    return {
        "requested": NAME,
        "executed": session.provider,
        "native": True,
        "device": cpu_name() if session.provider == CPU else session.provider.removesuffix("ExecutionProvider"),
        "isa": f"onnxruntime {runtime().__version__}",
        "reason": "; ".join(words) or None,
    }
