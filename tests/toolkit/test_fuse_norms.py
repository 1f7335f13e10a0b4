"""A norm keeps the sum that it normalizes for all that reads it, wherever in the graph that is."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from tests import tiny
from tests.toolkit.fusing import assert_same, fused, mask_of
from toolkit import Recipe, capture
from toolkit.pipeline import PASSES, run
from toolkit.quantize import quantize


class ReadBefore(GPT2Block):
    """What is added later is made of the sum before its norm."""

    def forward(self, hidden_states: Tensor, past: None, mask: Tensor, *_: object, **__: object) -> Tensor:
        half = hidden_states * 0.5
        total = self.attn(self.ln_1(hidden_states), attention_mask=mask)[0] + half
        quarter = total * 0.25
        return self.mlp(self.ln_2(total)) + quarter


class TwoNorms(GPT2Block):
    """Both are of one sum, which is read between them."""

    def forward(self, hidden_states: Tensor, past: None, mask: Tensor, *_: object, **__: object) -> Tensor:
        total = hidden_states + self.attn(self.ln_1(hidden_states), attention_mask=mask)[0]
        return self.mlp(self.ln_2(hidden_states)) + total


@pytest.mark.parametrize("kind", [ReadBefore, TwoNorms])
def test_the_sum_is_read_before_and_after_its_norm(kind: type[nn.Module]) -> None:
    model, mask = tiny.build(tiny.TIED), mask_of("right")
    for block in model.get_submodule("transformer.h").children():
        block.__class__ = kind
    source = capture(model)
    run(source, PASSES)
    quantize(source, Recipe("int", keep=("lm_head",)))
    graph, counts = fused(source)
    assert counts["add_norm"] + counts["embeddings"] == 5
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    assert_same(graph, source, {"input_ids": ids, "attention_mask": mask}, packed=True)
