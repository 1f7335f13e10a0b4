"""What cuda is measured beside on a GPU: PyTorch compiled to CUDA graphs in bfloat16, and torchao's INT8 and FP8 so.

Every engine is given batches on the CPU and answers there, so that each pays for the way there and back.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers._models import outputs_of
from benchmarks.peers.base import Batch, Run

PEERS = ("torch.compile bf16", "torchao int8", "torchao fp8")


def prepare(name: str, model: Any) -> Run:
    """name: one of PEERS; model: float32 on the CPU, which stays as it is → the call that is timed

    Raises whatever the engine raises, and ImportError where torchao is not installed.
    """
    private = copy.deepcopy(model).to("cuda", torch.bfloat16).eval()
    if name != PEERS[0]:
        _quantize(name, private)
    compiled = torch.compile(private, mode="max-autotune", dynamic=False)  # with CUDA graphs
    return on_gpu(compiled)


def on_gpu(model: Callable[..., Any]) -> Run:
    """→ a Run whose inputs and outputs are on the CPU"""

    def run(batch: Batch) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            output = model(**{name: value.to("cuda", non_blocking=True) for name, value in batch.items()})
            return tuple(value.float().cpu() for value in outputs_of(output).values())

    return run


def _quantize(name: str, model: Any) -> None:
    """Every linear of the encoder, rows of activations by a scale each, in place"""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        quantize_,
    )

    config = (
        Int8DynamicActivationInt8WeightConfig()
        if name == "torchao int8"
        else Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    )
    quantize_(model, config, lambda module, fqn: isinstance(module, torch.nn.Linear) and "qa_outputs" not in fqn)
