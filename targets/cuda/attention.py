"""Attention over packed sequences, by PyTorch: FlashAttention where it fits, else padded and masked."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.triton import rows
from targets._attention import Attention, AttentionRows
from targets._linear import Rows
from targets.cuda.linear import levels_of

WIDEST_HEAD = 256  # of FlashAttention


@dataclass
class Plan:
    """What all of a graph's attentions know of the batch that runs now: `longest`, at least the tokens of its longest
    sequence; None: they look at `starts` themselves, which makes the CPU wait for the GPU."""

    longest: int | None = None


class CudaAttention(nn.Module):
    """Attention: qkv [T, 3H], starts, keep → [T, H] of `dtype` (None: of qkv's), computed in `inner` (None: in qkv's);
    float32 stays float32 where attention is to be precise

    Tokens beyond starts[B] may be anything.
    """

    dtype: torch.dtype | None = None

    def __init__(self, source: Attention | AttentionRows, plan: Plan, inner: torch.dtype | None) -> None:
        super().__init__()
        self.heads, self.scale, self.causal = source.heads, source.scale, source.causal
        self.precise = source.precise
        self.plan, self.inner = plan, None if source.precise else inner

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None) -> Tensor:
        return self.attend(qkv, starts, keep).to(self.dtype or qkv.dtype)

    def attend(self, qkv: Tensor, starts: Tensor, keep: Tensor | None) -> Tensor:
        qkv = qkv.to(self.inner or qkv.dtype)
        longest = self.plan.longest or int(starts.diff().max())
        if keep is None and fits_flash(qkv, self.heads):
            return flash(qkv, starts, self.heads, self.scale, longest, self.causal)
        return padded(qkv, starts, keep, self.heads, self.scale, longest, self.causal)


class CudaAttentionRows(CudaAttention):
    """AttentionRows: qkv [T, 3H], starts, keep → rows [T, H]"""

    def __init__(self, source: AttentionRows, plan: Plan, inner: torch.dtype | None) -> None:
        super().__init__(source, plan, inner)
        self.how = levels_of(source.activation)

    def forward(self, qkv: Tensor, starts: Tensor, keep: Tensor | None) -> Rows:  # type: ignore[override]
        return rows.quantize(self.attend(qkv, starts, keep), self.how)


def fits_flash(qkv: Tensor, heads: int) -> bool:
    size = qkv.shape[1] // 3 // heads
    half = qkv.dtype in (torch.float16, torch.bfloat16)
    return qkv.is_cuda and half and size % 8 == 0 and size <= WIDEST_HEAD


def flash(qkv: Tensor, starts: Tensor, heads: int, scale: float, longest: int, causal: bool) -> Tensor:
    """qkv [T, 3H] float16 or bfloat16 on a GPU → [T, H]: PyTorch's own FlashAttention, which takes packed sequences

    Called below torch.nn.attention.varlen, which older versions do not have and whose arguments change.
    """
    total, width = qkv.shape[0], qkv.shape[1] // 3
    query, key, value = qkv.view(total, 3, heads, width // heads).unbind(1)
    y = torch.ops.aten._flash_attention_forward(
        query, key, value, starts, starts, longest, longest, 0.0, causal, False, scale=scale
    )[0]  # fmt: skip
    return y.reshape(total, width)


def padded(
    qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float, longest: int, causal: bool
) -> Tensor:
    """qkv [T, 3H] of any float type → [T, H]: sequences padded to `longest`, masked; zeros where nothing may be looked
    at. No size depends on what starts holds."""
    total, width = qkv.shape[0], qkv.shape[1] // 3
    steps = torch.arange(longest, device=qkv.device)
    inside = steps < starts.diff()[:, None]
    at = torch.where(inside, starts[:-1, None] + steps, total)  # [B, L]: each place's token; T: none
    source = F.pad(qkv, (0, 0, 0, 1))[at]
    real = inside if keep is None else inside & F.pad(keep, (0, 1))[at]
    query, key, value = source.view(*at.shape, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    looks = real[:, None] & (steps <= steps[:, None]) if causal else real[:, None]  # [B, L or 1, L]
    seen = looks.any(2)  # a place that may look at nothing looks at everything, and is not kept
    mask = (looks | ~seen[..., None])[:, None]
    y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    y = y.transpose(1, 2).reshape(*at.shape, width).masked_fill(~seen[..., None], 0)
    out = y.new_zeros(total + 1, width)
    out[at] = y
    return out[:total]
