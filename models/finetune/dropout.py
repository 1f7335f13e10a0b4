"""Dropout that draws seven bits an element: PyTorch's draws a float each, on one core, and took a third of a step."""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

LEVELS = 128  # a rate is rounded to a multiple of 1/128

ATTENTION = "eager_bf16"  # the name under which transformers finds `attention`


class Dropout(nn.Module):
    """`nn.Dropout` with the rate rounded to a multiple of 1/128, drawn from the same generator."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """Each element 0 with probability p (rounded to a multiple of 1/128), else divided by 1 − p.

    The factor is rounded to x's dtype, as in PyTorch's own with bf16: all that is kept is off by up to 1/256.
    """
    dropped = round(p * LEVELS)
    if dropped == 0:
        return x
    # random_() fills 63 bits of an int64: the lower seven of each of its bytes are uniform.
    bits = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_().view(torch.uint8)[: x.numel()]
    scale = LEVELS / max(LEVELS - dropped, 1)  # where all are dropped it scales nothing
    keep = (bits.bitwise_and_(LEVELS - 1) >= dropped).to(x.dtype).mul_(scale)
    return x * keep.view(x.shape)


def replace_dropout(model: nn.Module) -> int:
    """nn.Dropout(p) → Dropout(p), in place; the number replaced."""
    found = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Dropout)
    ]
    for module, name, child in found:
        setattr(module, name, Dropout(child.p).train(child.training))
    return len(found)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """transformers' eager attention without its round trip to float32: under autocast the softmax stays bf16.

    query, key, value: [batch, heads, length, head size]; attention_mask is added to the scores. Returns
    [batch, length, heads, head size] and the weights.
    """
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
    if attention_mask is not None:
        # float32's least number would be −inf in bf16, and a row with nothing else NaN.
        scores = scores + attention_mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    with torch.autocast("cpu", enabled=False):  # the kernel sums in float32 in any case
        weights = scores.softmax(-1)
    weights = _dropout(weights, dropout) if module.training else weights
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


_dropout = dropout  # `dropout` is transformers' name for the rate

AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
