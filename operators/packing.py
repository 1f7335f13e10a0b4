"""Batches without padding: the real tokens of all sequences side by side, and back.

Plain ATen, the same for every device. The rows of a packed batch are the real tokens in reading order, sequence
after sequence; on demand the first position of each sequence is there too, whatever it holds.
"""

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

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


def take_tokens(ids: list[Tensor], tokens: Tensor) -> list[Tensor]:
    """ids int64 [B, S] each, or one row, which stands for all B, of S or more; tokens int64 [T]
    → of each, int64 [T] at those flat positions

    S: the shortest. Raises ValueError for another dtype or shape, IndexError for a position outside of the batch.
    """
    _check_ids(ids, tokens)
    sequence = min((one.shape[1] for one in ids), default=0)
    batch = next((one.shape[0] for one in ids if one.shape[0] != 1), 1)
    return [one[:, :sequence].expand(batch, -1).reshape(-1).index_select(0, tokens) for one in ids]


def unpack_columns(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> list[Tensor]:
    """x [T, C] of 2 or 4 bytes an element, tokens int64 [T] → C columns [batch, sequence], zeros without a token

    What a head of two outputs, start and end, is read as. Raises what unpack_tokens raises.
    """
    _check_columns(x, tokens)
    return [column.contiguous() for column in unpack_tokens(x, tokens, batch, sequence).unbind(-1)]


def unpack_tokens(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    """x [T, C], tokens int64 [T] → [batch, sequence, C], zeros where there is no token

    tokens: as pack_tokens returns them. Raises ValueError for another dtype or shape, IndexError for a position
    outside of the batch.
    """
    _check_rows("unpack_tokens", x, tokens)
    flat = x.new_zeros(batch * sequence, x.shape[1])
    return flat.index_copy_(0, tokens, x).view(batch, sequence, x.shape[1])


def _check_mask(mask: Tensor) -> None:
    wanted = "pack_tokens: attention_mask must be [batch, sequence]"
    require(mask.dim() == 2, wanted, f"shape {list(mask.shape)}", "reshape it")


def _check_ids(ids: list[Tensor], tokens: Tensor) -> None:
    """Sizes of a batch may be symbols here: a single row is known to be one."""
    int64 = all(one.dtype == torch.int64 for one in (*ids, tokens))
    wanted = "take_tokens: ids must be int64 [B, S], or one row of S or more, and tokens int64 [T]"
    got = [f"{one.dtype} of shape {list(one.shape)}" for one in (*ids, tokens)]
    fits = int64 and tokens.dim() == 1 and all(one.dim() == 2 for one in ids)
    require(fits, wanted, got, "pass what pack_tokens returned")
    whole = [one.shape for one in ids if not statically_known_true(one.shape[0] == 1)]
    short = [one for one in ids if whole and statically_known_true(one.shape[1] < whole[0][1])]
    same = all(shape == whole[0] for shape in whole) and not short
    require(same, wanted, got, "pass what pack_tokens returned")


def _check_rows(op: str, x: Tensor, tokens: Tensor) -> None:
    wanted = f"{op}: x must be [T, C] and tokens int64 [T]"
    fits = x.dim() == 2 and tokens.dim() == 1 and tokens.dtype == torch.int64 and x.shape[0] == tokens.shape[0]
    got = f"{list(x.shape)} and {tokens.dtype} of shape {list(tokens.shape)}"
    require(fits, wanted, got, "pass what pack_tokens returned")


def _check_columns(x: Tensor, tokens: Tensor) -> None:
    _check_rows("unpack_columns", x, tokens)
    wanted = "unpack_columns: x must be of 2 or 4 bytes an element"
    require(x.element_size() in (2, 4), wanted, f"{x.dtype} of shape {list(x.shape)}", "convert it")


def _fake_pack_tokens(attention_mask: Tensor, first: bool = False) -> tuple[Tensor, Tensor]:
    _check_mask(attention_mask)
    count = torch.library.get_ctx().new_dynamic_size()
    tokens = attention_mask.new_empty((count,), dtype=torch.int64)
    return tokens, attention_mask.new_empty((attention_mask.shape[0] + 1,), dtype=torch.int32)


def _fake_unpack_tokens(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    _check_rows("unpack_tokens", x, tokens)
    return x.new_empty((batch, sequence, x.shape[1]))


def _fake_take_tokens(ids: list[Tensor], tokens: Tensor) -> list[Tensor]:
    _check_ids(ids, tokens)
    return [torch.empty_like(tokens) for _ in ids]


def _fake_unpack_columns(x: Tensor, tokens: Tensor, batch: int, sequence: int) -> list[Tensor]:
    _check_columns(x, tokens)
    return [x.new_empty((batch, sequence)) for _ in range(x.shape[1])]


define(
    "pack_tokens",
    "(Tensor attention_mask, bool first=False) -> (Tensor tokens, Tensor starts)",
    pack_tokens,
    _fake_pack_tokens,
)
define("take_tokens", "(Tensor[] ids, Tensor tokens) -> Tensor[]", take_tokens, _fake_take_tokens)
define(
    "unpack_columns",
    "(Tensor x, Tensor tokens, SymInt batch, SymInt sequence) -> Tensor[]",
    unpack_columns,
    _fake_unpack_columns,
)
define(
    "unpack_tokens",
    "(Tensor x, Tensor tokens, SymInt batch, SymInt sequence) -> Tensor",
    unpack_tokens,
    _fake_unpack_tokens,
)
