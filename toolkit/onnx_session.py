"""An ONNX file called as the model that it was made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers.utils import ModelOutput

from targets._onnx import CPU, Opened, Settings, open_file
from toolkit.inputs import DEFAULTS, KEY, Inputs, complete

INPUTS = "opswap.inputs"  # in the metadata of files that `export` writes: what the captured graph takes


@dataclass(frozen=True)
class OnnxModel:
    """Called as the model: input_ids, attention_mask, token_type_ids, int64 [batch, sequence], by keyword or in that
    order → its outputs by name, as the model's own output type has them, float32.

    provider: the full name of who runs it; nodes: how many nodes each provider runs (empty: not known).
    """

    opened: Opened
    takes: Inputs
    provider: str

    @property
    def nodes(self) -> dict[str, int]:
        return self.opened.nodes

    def __call__(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """Raises UsageError for what the file doesn't take, as a captured graph does."""
        graph: Any = SimpleNamespace(meta={KEY: self.takes})
        _, given = complete(graph, args, kwargs)
        return ModelOutput(self.opened.run(given))


def open_session(
    path: Path,
    provider: str = CPU,
    threads: int | None = None,
    strict: bool = False,
    options: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> OnnxModel:
    """path: an ONNX file of a model that takes input_ids. provider: by name, "cuda" or "CUDAExecutionProvider";
    options: the provider's own; strict: no node may run on the CPU instead; profile: see targets._onnx.Settings.

    Raises TargetUnavailable, in one line, where ONNX Runtime or the provider is not there or can't run the file.
    """
    opened = open_file(Path(path), Settings(provider, options or {}, threads, strict, profile))
    return OnnxModel(opened, _takes(opened), opened.providers[0])


def _takes(opened: Opened) -> Inputs:
    if INPUTS in opened.metadata:
        return told(opened.inputs, opened.metadata[INPUTS])
    return Inputs(opened.inputs, tuple(name for name in DEFAULTS if name not in opened.inputs), None)


def told(names: tuple[str, ...], text: str) -> Inputs:
    """names: a file's own; text: what it says under INPUTS"""
    found = json.loads(text)
    return Inputs(names, tuple(found["ignored"]), found["longest"])
