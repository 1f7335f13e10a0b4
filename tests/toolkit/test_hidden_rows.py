"""Tokens that may look at none: padding before a text that looks back alone, and all of a text that is padding."""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedModel

from tests import tiny
from tests.checks import assert_sqnr
from toolkit import Recipe, transform

IDS = torch.randint(3, tiny.VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
REAL = MASK.bool()


def build(name: str, how: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if name == "bert":
        return BertModel(BertConfig(**tiny._ENCODER, attn_implementation=how)).eval()
    return GPT2Model(GPT2Config(**tiny._GPT2, attn_implementation=how)).eval()


@pytest.mark.parametrize("precision, db", [("fp", 110.0), ("int", 25.0)])
@pytest.mark.parametrize("how", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_they_get_what_pytorch_gives_and_change_no_others(name: str, how: str, precision: str, db: float) -> None:
    """Its attention under a boolean mask gives them zeros; one in steps an average of all values, which is lost."""
    model = build(name, how)
    graph = transform(model, Recipe(precision, without=("packing",)), "customcpu")
    with torch.no_grad():
        want = model(input_ids=IDS, attention_mask=MASK).last_hidden_state
        have = graph(input_ids=IDS, attention_mask=MASK)["last_hidden_state"]
    assert have.isfinite().all()
    for which in (REAL, ~REAL) if how == "sdpa" else (REAL,):
        assert_sqnr(have[which], want[which], db)
