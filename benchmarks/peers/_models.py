"""The model in the forms that engines call: as Hugging Face does, or with plain tensors in and out for a tracer."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.base import Batch, Run


class Logits(nn.Module):
    """The question-answering model: tensors in the order of `names` in, start and end logits out."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """inputs: int64 [batch, sequence] each → float [batch, sequence], twice"""
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return output.start_logits, output.end_logits


def in_bf16(model: nn.Module) -> nn.Module:
    """→ a copy with all floats as bfloat16"""
    return copy.deepcopy(model).to(torch.bfloat16)


def logits_of(model: Callable[..., Any], context: Callable[[], Any] = torch.inference_mode) -> Run:
    """A model that is called as Hugging Face's question-answering models are → a Run, each call in `context`."""

    def run(batch: Batch) -> tuple[Tensor, Tensor]:
        with context():
            output = model(**batch)
        return output.start_logits, output.end_logits

    return run
