"""The model in the forms that engines call: as Hugging Face does, or with plain tensors in and out for a tracer."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.base import Batch, Run

# of a model's output, for every task: what is measured and compared; a language model's cache, a pooler's row are not
OUTPUTS = (("start_logits", "end_logits"), ("logits",), ("last_hidden_state",))


def outputs_of(output: Mapping[str, Any]) -> dict[str, Any]:
    """output: a model's, by name → the first of OUTPUTS that it has, by name. Raises ValueError where it has none."""
    for names in OUTPUTS:
        if all(name in output for name in names):
            return {name: output[name] for name in names}
    raise ValueError(f"one of {OUTPUTS} was wanted; the model gives {', '.join(output)}")


def is_by_token(name: str, output: Any) -> bool:
    """Whether a tensor of `outputs_of` has a place for each token [batch, sequence, ...]: logits of classes have not"""
    return name != "logits" or len(output.shape) == 3


class Outputs(nn.Module):
    """The model: tensors in the order of `names` in, those of `outputs_of` out."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """inputs: int64 [batch, sequence] each → float, as base.Run has them"""
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(outputs_of(output).values())


def in_bf16(model: nn.Module) -> nn.Module:
    """→ a copy with all floats as bfloat16"""
    return copy.deepcopy(model).to(torch.bfloat16)


def run_of(model: Callable[..., Any], context: Callable[[], Any] = torch.inference_mode) -> Run:
    """A model that is called as Hugging Face's models are → a Run, each call in `context`."""

    def run(batch: Batch) -> tuple[Tensor, ...]:
        with context():
            output = model(**batch)
        return tuple(outputs_of(output).values())

    return run
