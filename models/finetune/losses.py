"""What a training step makes smaller: the answer's cross-entropy, and the distance from a teacher's answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.finetune.sampling import TrainingWindow

OUT = -1e4  # a logit whose probability is 0, and 0 times its logarithm too


@dataclass(frozen=True)
class Distillation:
    """weight: the teacher's share of the loss, the rest is the answer's; temperature: what logits are divided by."""

    weight: float = 0.9
    temperature: float = 2.0


def total_loss(output: Any, items: Sequence[TrainingWindow], how: Distillation | None, taught: Any = None) -> Tensor:
    """The span loss of a model's output; with `how`, mixed with the distance from `taught`, the teacher's output."""
    loss = span_loss(output.start_logits, output.end_logits, items)
    if how is None:
        return loss
    padding = _padding(output.start_logits, items)
    pairs = ((output.start_logits, taught.start_logits), (output.end_logits, taught.end_logits))
    distance = sum(distillation_loss(*pair, padding, how.temperature) for pair in pairs) / 2
    return (1 - how.weight) * loss + how.weight * distance


def span_loss(start_logits: Tensor, end_logits: Tensor, items: Sequence[TrainingWindow]) -> Tensor:
    """Mean of the cross-entropies of first and last token, in float32; logits are [batch, length].

    Padding takes no part: how far a batch is padded must not change the result.
    """
    padding = _padding(start_logits, items)

    def cross_entropy(logits: Tensor, tokens: list[int]) -> Tensor:
        return nn.functional.cross_entropy(logits.float().masked_fill(padding, float("-inf")), torch.tensor(tokens))

    starts = cross_entropy(start_logits, [item.start for item in items])
    return (starts + cross_entropy(end_logits, [item.end for item in items])) / 2


def distillation_loss(logits: Tensor, taught: Tensor, padding: Tensor, temperature: float) -> Tensor:
    """T²·KL(softmax(taught / T) ‖ softmax(logits / T)), the mean over the batch, in float32; logits [batch, length].

    Hinton, Vinyals, Dean (arXiv 1503.02531): T² keeps the gradient's size. Positions in `padding` take no part.
    """
    student, teacher = (
        (given.float() / temperature).masked_fill(padding, OUT).log_softmax(-1) for given in (logits, taught)
    )
    return temperature**2 * nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _padding(logits: Tensor, items: Sequence[TrainingWindow]) -> Tensor:
    lengths = torch.tensor([len(item.window) for item in items])
    return torch.arange(logits.shape[1]) >= lengths[:, None]
