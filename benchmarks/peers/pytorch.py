"""PyTorch's own engines, eager: float32, bfloat16, and dynamic INT8 on each of its two backends."""

import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase

import torch
from torch import nn

from benchmarks.peers._models import in_bf16, run_of
from benchmarks.peers.base import Engine, Run, Work
from toolkit.recipe import KEEP


def fp32(work: Work) -> Run:
    return run_of(work.model)


def bf16(work: Work) -> Run:
    return run_of(in_bf16(work.model))


def dynamic_int8(backend: str) -> Callable[[Work], Run]:
    """Weights per tensor int8, activations per tensor at run time: what `quantize_dynamic` offers for linears."""

    def prepare(work: Work) -> Run:
        if backend not in torch.backends.quantized.supported_engines:
            raise RuntimeError(f"this PyTorch has no quantized backend {backend}")
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = backend  # decides how weights are packed; a packed one keeps its own code
        try:
            return run_of(_quantized(work.model))
        finally:
            torch.backends.quantized.engine = before

    return prepare


def _quantized(model: nn.Module) -> nn.Module:
    """→ a copy whose linears are int8, but for the heads that stay in float in ours too. Raises RuntimeError where it
    has none: a GPT-2's are of a class that `quantize_dynamic` passes by."""
    linears = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    wanted = {name for name in linears if not any(fnmatchcase(name, pattern) for pattern in KEEP)}
    if not wanted:
        raise RuntimeError(f"{type(model).__name__} has no nn.Linear that it would quantize")
    config = torch.ao.quantization.default_dynamic_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what people run
        return torch.ao.quantization.quantize_dynamic(model, {name: config for name in wanted})


ENGINES = (
    Engine("PyTorch fp32", "fp32", ("torch",), fp32),
    Engine("PyTorch bf16", "bf16", ("torch",), bf16),
    Engine("PyTorch dynamic int8 (onednn)", "int8", ("torch",), dynamic_int8("onednn")),
    Engine("PyTorch dynamic int8 (fbgemm)", "int8", ("torch",), dynamic_int8("fbgemm")),
)
