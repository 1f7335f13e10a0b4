"""Batches without padding: the real tokens of all sequences side by side, and back.

Plain ATen, the same for every device. The rows of a packed batch are the real tokens in reading order, sequence
after sequence; on demand the first position of each sequence is there too, whatever it holds.
"""

import torch
from torch import Tensor

from operators.schema import define
from operators.validate import require


def pack_tokens(attention_mask: Tensor, first: bool = False) -> tuple[Tensor, Tensor]:
    """attention_mask [B, S], 0 at padding → tokens int64 [T], starts int32 [B + 1]

    tokens: the flat positions b·S + s of the real tokens, in order; rows starts[b] to starts[b + 1] of a packed
    batch are sequence b. first: position 0 of each sequence is packed, real or not. Raises ValueError for another
    shape.
    """
    _check_mask(attention_mask)
    real = attention_mask != 0
    if first:
        real[:, :1] = True
    tokens = real.flatten().nonzero().flatten()
    ends = real.sum(1).cumsum(0)
    return tokens, torch.cat([ends.new_zeros(1), ends]).to(torch.int32)


def unpack_tokens(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    """x [T, C], tokens int64 [T] → [batch, sequence, C], zeros where there is no token

    tokens: as pack_tokens returns them. Raises ValueError for another dtype or shape, IndexError for a position
    outside of the batch.
    """
    _check_rows(x, tokens)
    flat = x.new_zeros(batch * sequence, x.shape[1])
    return flat.index_copy_(0, tokens, x).view(batch, sequence, x.shape[1])


def _check_mask(mask: Tensor) -> None:
    wanted = "pack_tokens: attention_mask must be [batch, sequence]"
    require(mask.dim() == 2, wanted, f"shape {list(mask.shape)}", "reshape it")


def _check_rows(x: Tensor, tokens: Tensor) -> None:
    wanted = "unpack_tokens: x must be [T, C] and tokens int64 [T]"
    fits = x.dim() == 2 and tokens.dim() == 1 and tokens.dtype == torch.int64 and x.shape[0] == tokens.shape[0]
    got = f"{list(x.shape)} and {tokens.dtype} of shape {list(tokens.shape)}"
    require(fits, wanted, got, "pass what pack_tokens returned")


def _fake_pack_tokens(attention_mask: Tensor, first: bool = False) -> tuple[Tensor, Tensor]:
    _check_mask(attention_mask)
    count = torch.library.get_ctx().new_dynamic_size()
    tokens = attention_mask.new_empty((count,), dtype=torch.int64)
    return tokens, attention_mask.new_empty((attention_mask.shape[0] + 1,), dtype=torch.int32)


def _fake_unpack_tokens(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    _check_rows(x, tokens)
    return x.new_empty((batch, sequence, x.shape[1]))


define(
    "pack_tokens",
    "(Tensor attention_mask, bool first=False) -> (Tensor tokens, Tensor starts)",
    pack_tokens,
    _fake_pack_tokens,
)
define(
    "unpack_tokens",
    "(Tensor x, Tensor tokens, SymInt batch, SymInt sequence) -> Tensor",
    unpack_tokens,
    _fake_unpack_tokens,
)
