"""Heads that read position 0 of each sequence, padding or not: it is packed with the real tokens, all else stays."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from transformers import AutoModel

from targets._layers import PackedLayers
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.fusing import SAME_DB, fused, inputs, mask_of, model_of, unfused
from tests.toolkit.test_fuse import PADDINGS
from toolkit import Recipe, report_of, transform

aten = torch.ops.aten
CLASSIFIERS = [f"{name} classifier" for name in ("bert", "roberta", "distilbert", "electra", "albert")]
READS_FIRST = [*CLASSIFIERS, "bert encoder"]


class First(nn.Module):
    """An encoder or a causal decoder, of which `read` reads something, and its hidden states"""

    def __init__(self, base: str, read) -> None:
        super().__init__()
        self.base, self.read = AutoModel.from_config(tiny.build(base).config), read
        self.config = self.base.config
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.base(input_ids=input_ids, attention_mask=attention_mask)[0]
        return {"hidden": hidden, "read": self.head(self.read(hidden)).flatten(1)}


READS = {
    "x[:, 0]": lambda x: x[:, 0],
    "x[:, 0, :]": lambda x: x[:, 0, :],
    "x[:, :1]": lambda x: x[:, :1],
    "x[:, 0:1, :]": lambda x: x[:, 0:1, :],
    "of a copy": lambda x: x.clone()[:, 0],
}
OTHER_READS = {
    "x[:, 1]": lambda x: x[:, 1],
    "x[:, -1]": lambda x: x[:, -1],
    "x[:, :2]": lambda x: x[:, :2].sum(1),
    "x[0]": lambda x: x[:, 0] + x[0].sum(0),
    "mean": lambda x: x.mean(1) + x[:, 0],
}


@cache
def lowered(name: str, *without: str) -> fx.GraphModule:
    return transform(model_of(name), Recipe("int", without=without), "customcpu")


def first(base: str, read) -> tuple[fx.GraphModule, fx.GraphModule]:
    """→ the packed graph of First on customcpu, and the padded one"""
    torch.manual_seed(0)
    model = First(base, read).eval()
    packed, padded = (transform(model, Recipe("int", without=without), "customcpu") for without in ((), ("packing",)))
    return packed, padded


def same_at(real: Tensor, packed: dict[str, Tensor], padded: dict[str, Tensor]) -> None:
    """Hidden states alike, bit for bit, at `real` and at position 0, zeros elsewhere; what reads them alike"""
    (states, have), (wanted_states, want) = packed.values(), padded.values()
    there = real.clone()
    there[:, 0] = True
    assert_equal_bits(states[there], wanted_states[there])
    assert not states[~there].any()
    assert_equal_bits(have, want)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", READS_FIRST)
def test_equals_the_unfused_graph(name, padding):
    graph, counts = fused(unfused(name))
    assert counts["packing"] == 1 and counts["rows"] == 2
    given = inputs(name, mask_of(padding))
    assert_sqnr(list(graph(**given).values())[-1], list(unfused(name)(**given).values())[-1], SAME_DB)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_equals_the_padded_graph_bit_for_bit(name, padding):
    given = inputs(name, mask_of(padding))
    assert_equal_bits(lowered(name)(**given)[0], lowered(name, "packing")(**given)[0])


@settings(max_examples=25, deadline=None)
@given(mask=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_any_mask(mask):
    """Sequences without a single token too."""
    given = inputs("bert encoder", torch.tensor(mask).long())
    packed, padded = lowered("bert encoder")(**given), lowered("bert encoder", "packing")(**given)
    same_at(torch.tensor(mask), packed, padded)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64], ids=str)
def test_masks_of_other_numbers(dtype):
    given = inputs("classifier", mask_of("left"))
    want = lowered("classifier", "packing")(**given)[0]
    mask = given["attention_mask"].to(dtype) * (1 if dtype is torch.bool else 3)
    assert_equal_bits(lowered("classifier")(**{**given, "attention_mask": mask})[0], want)


@pytest.mark.parametrize("padding", ["right", "left", "scattered"])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("base", ["bert", "gpt2"])
def test_ways_to_read_it(base, read, padding):
    """Causal attention too."""
    packed, padded = first(base, READS[read])
    assert report_of(packed).fused["packing"] == 1
    mask = mask_of(padding)
    given = inputs(base, mask)
    given.pop("token_type_ids", None)
    same_at(mask.bool(), packed(**given), padded(**given))


@pytest.mark.parametrize("read", OTHER_READS)
def test_other_positions_keep_the_padding(read):
    packed, _ = first("bert", OTHER_READS[read])
    assert report_of(packed).fused["packing"] == 0


@pytest.mark.parametrize("name, padding, rows", [("classifier", "right", 26), ("classifier", "left", 29),
                                                 ("bert", "left", 26)])  # fmt: skip
def test_only_real_tokens_and_the_first_position_are_computed(name, padding, rows):
    """Of 4 sequences of 12; the last one on the left is full of tokens."""
    graph, seen = lowered(name, "calls"), []
    layers = next(module for module in graph.modules() if isinstance(module, PackedLayers))
    layers.register_forward_hook(lambda module, args, result: seen.append((args[0].shape[0], args[3] is None)))
    graph(**inputs(name, mask_of(padding)))
    assert seen == [(rows, name == "bert")]
