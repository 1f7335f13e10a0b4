"""DeBERTa's attention over packed heads: scores also depend on how far apart tokens are, by their content."""

import torch
from torch import Tensor, nn

from operators.attention_disentangled import attention_disentangled, fake_attention_disentangled


class DisentangledAttention(nn.Module):
    """qkv [T, 3H] float32 or bfloat16, starts int32 [B + 1], keep bool [T] or None, places int64 [T] or None,
    position_keys [heads, P, d] and key_index int32 [S, S], position_queries and query_index alike, one of the two pairs
    may be None → [T, H] of qkv's dtype

    softmax(scale · (query · keyᵀ + query · position_keys[key_index]ᵀ + key · position_queries[query_index]ᵀ)) · value,
    both indices by the places of query and key, modulo S. All else is as Attention's.
    """

    narrow = True

    def __init__(self, heads: int, scale: float, precise: bool = False) -> None:
        super().__init__()
        self.heads, self.scale, self.precise = heads, scale, precise

    def forward(
        self, qkv: Tensor, starts: Tensor, keep: Tensor | None, places: Tensor | None, *positions: Tensor | None
    ) -> Tensor:
        return attend(qkv, starts, keep, places, *positions, self.heads, self.scale).to(qkv.dtype)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}, precise={self.precise}"


# an operator, as targets/_attention.py's attend: the reference, whatever kernels are loaded
attend = torch.library.custom_op("opswap_reference::attention_disentangled", attention_disentangled, mutates_args=())
attend.register_fake(fake_attention_disentangled)
