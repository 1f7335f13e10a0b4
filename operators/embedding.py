"""The sum of a token's embeddings, normalized and quantized: schema, fake and reference."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from operators import validate
from operators.fused import NORM, NORMED, Normed, check_norm, norm_rows
from operators.schema import define, empty_rows


def embed_norm(
    ids1: Tensor,
    table1: Tensor,
    ids2: Tensor | None,
    table2: Tensor | None,
    ids3: Tensor | None,
    table3: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    quantize: bool,
    *ways: Any,
) -> Normed:
    """ids int64 or int32 [T], tables float32 [V, N]; gamma and all after it as norm_rows takes them
    → norm_rows(table1[ids1] (+ table2[ids2] (+ table3[ids3])))

    → y float32 [T, N] and y's rows (of 0 rows without `quantize`); summed from left to right. Raises ValueError,
    and IndexError (the kernel: RuntimeError) for an id that its table does not have.
    """
    pairs = _check(ids1, table1, ids2, table2, ids3, table3, gamma)
    total = F.embedding(*pairs[0])
    for ids, table in pairs[1:]:
        total = total + F.embedding(ids, table)
    check_norm("embed_norm", total, "the sum", total.shape[0], total.shape[1], gamma, beta, quantize, *ways)
    return norm_rows(total, gamma, beta, eps, quantize, *ways)


def _check(
    ids1: Tensor,
    table1: Tensor,
    ids2: Tensor | None,
    table2: Tensor | None,
    ids3: Tensor | None,
    table3: Tensor | None,
    gamma: Tensor,
) -> list[tuple[Tensor, Tensor]]:
    pairs = [(ids1, table1)]
    for which, ids, table in (("second", ids2, table2), ("third", ids3, table3)):
        wanted = f"embed_norm: a {which} table and its ids must come together"
        validate.require((ids is None) == (table is None), wanted, "one of them", "pass both or none")
        if ids is not None and table is not None:
            pairs.append((ids, table))
    for ids, table in pairs:
        validate.check_lookup("embed_norm", ids, table, ids1.shape[:1], gamma.shape[:1])
    return pairs


def _fake(ids1: Tensor, table1: Tensor, ids2: Tensor | None, table2: Tensor | None,
          ids3: Tensor | None, table3: Tensor | None, gamma: Tensor, beta: Tensor, eps: float,
          quantize: bool, *ways: Any) -> Normed:  # fmt: skip
    _check(ids1, table1, ids2, table2, ids3, table3, gamma)
    m, n = ids1.shape[0], gamma.shape[0]
    y = table1.new_empty((m, n))
    check_norm("embed_norm", y, "y", m, n, gamma, beta, quantize, *ways)
    return y, *empty_rows(table1, m if quantize else 0, n)


define(
    "embed_norm",
    f"(Tensor ids1, Tensor table1, Tensor? ids2, Tensor? table2, Tensor? ids3, Tensor? table3, {NORM}) -> {NORMED}",
    embed_norm,
    _fake,
)
