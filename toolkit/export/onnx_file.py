"""A graph of ours, float or quantized → an ONNX model, its weights beside it where one file can't hold them."""

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from targets._bf16 import Bf16Linear
from targets._weight import WeightLinear
from toolkit.export.errors import ExportError
from toolkit.export.files import data_name
from toolkit.export.program import program_of
from toolkit.export.split import split_linears, swap

PACKAGES = ("onnx", "onnxscript")
PRECISIONS = ("fp", "int")  # that a file can be of
OPSET = 18
LARGEST = 1_900_000_000  # bytes of weights in one file: protobuf ends at 2**31, and the graph needs room too


@dataclass(frozen=True)
class Written:
    """opset; linears: how many in 8 bits; widened: the names of those in bfloat16, which became float32; operators:
    how many nodes of each kind the file has"""

    opset: int
    linears: int
    widened: tuple[str, ...]
    operators: dict[str, int]


def require_packages() -> None:
    """Raises ExportError, in one line, where a package that writes ONNX is missing."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ExportError(f"ONNX is written with {package}, which is not installed: pip install opswap[onnx]")


def write(graph: fx.GraphModule, path: Path, about: Mapping[str, str], largest: int = LARGEST) -> Written:
    """graph: captured, quantized or not, not lowered, rewritten in place. about: what the file is to say about itself.
    Weights of more than `largest` bytes go into a file beside. Raises ExportError."""
    require_packages()
    from toolkit.export.onnx_operators import OnnxLinear, OnnxStatic, OnnxToken, OnnxWhole, widened

    def quantizer(how: Any) -> torch.nn.Module:
        if not hasattr(how, "scale"):
            return OnnxWhole(how)
        return OnnxToken(how) if how.scale is None else OnnxStatic(how)

    linears = split_linears(graph, quantizer, OnnxLinear)
    linears += len(swap(graph, WeightLinear, OnnxLinear))
    wide = swap(graph, Bf16Linear, widened)
    model = _model(graph)
    model.metadata_props.update(about)
    _save(model, path, largest)
    counts: dict[str, int] = {}
    for node in model.graph:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return Written(OPSET, linears, tuple(wide), dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def _model(graph: fx.GraphModule) -> Any:
    from toolkit.export.onnx_naming import name_nodes, name_sizes
    from toolkit.export.onnx_translation import TABLE

    program, outputs = program_of(graph)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is missing is nothing to a reader
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            made: Any = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, verbose=False, custom_translation_table=TABLE,
                output_names=outputs,
            )  # fmt: skip
    except Exception as error:  # torch.onnx's own errors say much and have no common base
        raise ExportError(f"{type(graph).__name__} can't be written as ONNX: {_reason(error)}") from error
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    model = made.model
    name_nodes(model, outputs)
    name_sizes(model)
    model.graph.name = type(graph).__name__
    model.producer_name, model.producer_version = "opswap", None
    return model


def _reason(error: BaseException) -> str:
    """→ the last line of what the first of these errors, each the cause of the next, says"""
    while error.__cause__:
        error = error.__cause__
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _save(model: Any, path: Path, largest: int) -> None:
    import onnx
    import onnx_ir

    weights = [value.const_value for value in model.graph.initializers.values()]
    beside: dict[str, Any] = {}
    if sum(weight.nbytes for weight in weights) > largest:
        digest = hashlib.sha256()
        for weight in weights:
            digest.update(weight.tobytes())
        beside = {"external_data": data_name(path, digest.hexdigest()), "size_threshold_bytes": 1024}
    onnx_ir.save(model, path, **beside)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX file that was made is not valid: {' '.join(str(error).split())[:300]}") from error
