"""An ONNX file in ONNX Runtime, on a provider that is chosen by name and never substituted."""

import importlib
import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from targets.base import TargetUnavailable

CPU = "CPUExecutionProvider"
SUFFIX = "ExecutionProvider"
INSTALL = "pip install onnxruntime, or the build of it that brings the provider"
RECORD = "session.record_ep_graph_assignment_info"
# Without VNNI, unsigned × signed bytes are added in int16, which overflows: this chooses the exact, slower kernels. It
# is for such machines alone: ONNX Runtime 1.31 can't open a file with it where several nodes share a weight (ALBERT).
EXACT = "session.x64quantprecision"
NO_CPU = "session.disable_cpu_ep_fallback"


@dataclass(frozen=True)
class Settings:
    """provider: by name. options: its own. threads: CPU threads, None: ONNX Runtime's choice. strict: refuse a file
    of which a node would run on the CPU (means nothing where the CPU is the provider). profile: the start of the name
    of a file to write times to, at `end_profiling`."""

    provider: str = CPU
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    strict: bool = False
    profile: str | None = None


@dataclass(frozen=True)
class Opened:
    """A session. inputs, outputs: their names. metadata: what the file says about itself. providers: those that the
    session really has, best first. nodes: how many nodes of the optimized graph each provider was given; empty where
    this ONNX Runtime doesn't tell."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    providers: tuple[str, ...]
    nodes: dict[str, int]

    def run(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """int64 tensors by the names of `inputs` → float tensors by the names of `outputs`"""
        fed = {name: given[name].contiguous().cpu().numpy() for name in self.inputs}
        found = self.session.run(list(self.outputs), fed)
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, found, strict=True)}


def runtime() -> Any:
    """→ the module onnxruntime. Raises TargetUnavailable when it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise TargetUnavailable(f"ONNX Runtime is wanted here, and onnxruntime is not installed: {INSTALL}")
    return importlib.import_module("onnxruntime")


def full_name(provider: str) -> str:
    """→ the full name, as this ONNX Runtime writes it, of "cuda", "CUDA" or "CUDAExecutionProvider"

    Raises TargetUnavailable for a provider that is not there.
    """
    available = runtime().get_available_providers()
    wanted = provider.removesuffix(SUFFIX).lower()
    for name in available:
        if name.removesuffix(SUFFIX).lower() == wanted:
            return name
    raise TargetUnavailable(
        f"this onnxruntime has no provider {provider}; it has {', '.join(available)}: install the build that brings it"
    )


def open_file(path: Path, settings: Settings) -> Opened:
    """Raises TargetUnavailable where ONNX Runtime or the provider is missing, is dropped by the session, or refuses
    the file (as it does when strict and a node would run on the CPU)."""
    module, provider = runtime(), full_name(settings.provider)
    if not path.is_file():
        raise TargetUnavailable(f"there is no file {path}: export the model first")
    others = [] if provider == CPU or settings.strict else [CPU]
    try:
        session = module.InferenceSession(
            str(path), _options(module, settings, provider), providers=[(provider, dict(settings.options)), *others]
        )
    except Exception as error:  # ONNX Runtime's own errors have no common base but Exception
        raise TargetUnavailable(f"{provider} can't open {path.name}: {_one_line(error)}") from error
    session.disable_fallback()  # or a call that fails would be tried again on another provider
    providers = tuple(session.get_providers())
    if provider not in providers:
        raise TargetUnavailable(f"{provider} was asked for, and the session has {', '.join(providers)}: see its log")
    inputs, outputs = (tuple(arg.name for arg in args) for args in (session.get_inputs(), session.get_outputs()))
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return Opened(session, inputs, outputs, metadata, providers, _nodes(session))


def saturates() -> bool:
    """Whether this is an x86 CPU without VNNI."""
    found = torch.cpu.get_capabilities()
    return found.get("architecture") == "x86_64" and not (found.get("avx512_vnni") or found.get("avx_vnni"))


def _options(module: Any, settings: Settings, provider: str) -> Any:
    options = module.SessionOptions()
    if settings.threads:
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
    if settings.profile:
        options.enable_profiling, options.profile_file_prefix = True, settings.profile
    entries = {RECORD: "1", "session.force_spinning_stop": "1"}
    if saturates():
        entries[EXACT] = "1"
    if settings.strict and provider != CPU:
        entries[NO_CPU] = "1"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _nodes(session: Any) -> dict[str, int]:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
