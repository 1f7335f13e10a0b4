"""The way back from rows of tokens to [B, S, C], for nothing where there is no padding."""

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import guard_or_false


def see_as_padded(graph: fx.GraphModule) -> int:
    """unpack_tokens(rows, tokens, B, S) → padded(rows, tokens, B, S), in place: a language model's logits are too many
    to be copied for nothing. → how many"""
    found = graph.graph.find_nodes(op="call_function", target=torch.ops.opswap.unpack_tokens.default)
    for node in found:
        node.target = padded
    return len(found)


def padded(rows: Tensor, tokens: Tensor, batch: int, sequence: int) -> Tensor:
    """opswap::unpack_tokens; where all tokens are real, the rows themselves as [batch, sequence, C]

    While a graph is exported nobody knows whether they are, and the operator stays.
    """
    if guard_or_false(rows.shape[0] == batch * sequence):
        return rows.view(batch, sequence, rows.shape[1])
    return torch.ops.opswap.unpack_tokens(rows, tokens, batch, sequence)
