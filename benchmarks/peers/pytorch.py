"""PyTorch's own engines, eager: float32, bfloat16, and dynamic INT8 on each of its two backends."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.peers._models import in_bf16, logits_of
from benchmarks.peers.base import Engine, Run, Work

HEAD = "qa_outputs"  # stays in float, as in ours


def fp32(work: Work) -> Run:
    return logits_of(work.model)


def bf16(work: Work) -> Run:
    return logits_of(in_bf16(work.model))


def dynamic_int8(backend: str) -> Callable[[Work], Run]:
    """Weights per tensor int8, activations per tensor at run time: what `quantize_dynamic` offers for linears."""

    def prepare(work: Work) -> Run:
        if backend not in torch.backends.quantized.supported_engines:
            raise RuntimeError(f"this PyTorch has no quantized backend {backend}")
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = backend  # decides how weights are packed; a packed one keeps its own code
        try:
            return logits_of(_quantized(work.model))
        finally:
            torch.backends.quantized.engine = before

    return prepare


def _quantized(model: nn.Module) -> nn.Module:
    linears = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    wanted = {name for name in linears if not name.endswith(HEAD)}
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
