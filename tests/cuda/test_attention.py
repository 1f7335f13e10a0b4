"""Attention over packed sequences against the reference's loop over them."""

import pytest
import torch

from operators import reference
from targets._attention import Attention, AttentionRows, attend
from targets.cuda.attention import CudaAttention, CudaAttentionRows, Plan
from tests.activations import ACTIVATIONS
from tests.checks import assert_sqnr
from tests.cuda.samples import random, unsigned

HEADS, WIDTH, SCALE = 4, 32, 0.3
STARTS = [0, 5, 5, 6, 19]
DB = {torch.float32: 110, torch.float16: 50, torch.bfloat16: 35}


def starts(device) -> torch.Tensor:
    return torch.tensor(STARTS, dtype=torch.int32, device=device)


def kept(which: str) -> torch.Tensor | None:
    if which == "all":
        return None
    keep = torch.ones(STARTS[-1], dtype=torch.bool)
    keep[[1, 4, 7, 10]] = False
    keep[5] = which == "some"
    return keep


@pytest.mark.parametrize("longest", [None, 13, 32])
@pytest.mark.parametrize("dtype", DB, ids=str)
@pytest.mark.parametrize("which", ["all", "some", "none of one sequence"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_attention(device, causal, which, dtype, longest):
    qkv, keep = random(STARTS[-1], 3 * WIDTH).to(dtype), kept(which)
    made = CudaAttention(Attention(HEADS, SCALE, causal=causal), Plan(longest), None)
    y = made(qkv.to(device), starts(device), None if keep is None else keep.to(device))
    assert y.dtype == dtype and y.shape == (STARTS[-1], WIDTH)
    assert_sqnr(y.cpu().float(), attend(qkv, starts("cpu"), keep, HEADS, SCALE, causal), DB[dtype])
    assert which != "none of one sequence" or not y[5].any()


def test_tokens_beyond_the_last_sequence_change_nothing(device):
    """They fill a batch up to the size of a captured graph, beside sequences of no token, and may hold anything."""
    qkv = torch.cat([random(STARTS[-1], 3 * WIDTH), torch.full((13, 3 * WIDTH), torch.nan)]).to(device)
    more = torch.tensor([*STARTS, *[STARTS[-1]] * 3], dtype=torch.int32, device=device)
    made = CudaAttention(Attention(HEADS, SCALE), Plan(16), None)
    y = made(qkv, more, None)[: STARTS[-1]]
    assert_sqnr(y.cpu(), attend(qkv[: STARTS[-1]].cpu(), starts("cpu"), None, HEADS, SCALE, False), 110)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rows(device, name):
    how = ACTIVATIONS[name]
    qkv = random(STARTS[-1], 3 * WIDTH)
    y = CudaAttention(Attention(HEADS, SCALE), Plan(13), None)(qkv.to(device), starts(device), None)
    rows = CudaAttentionRows(AttentionRows(HEADS, SCALE, how), Plan(13), None)(qkv.to(device), starts(device), None)
    want = reference.quantize_per_token(y.cpu(), *how.levels())
    assert all(torch.equal(a, b) for a, b in zip(unsigned(rows), want, strict=True))
