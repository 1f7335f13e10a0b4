"""How many tokens a row may have, where positions are counted from behind the padding index."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from models.texts import BEHIND_PADDING, longest_row
from tests.models.samples import tokenizer
from toolkit.inputs import inputs_of

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
OWN = {
    "lilt": {"hidden_size": 48},
    "luke": {"entity_emb_size": 8, "entity_vocab_size": 4},
    "longformer": {"attention_window": [4]},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}


@pytest.mark.parametrize("kind", [*BEHIND_PADDING, "bert", "distilbert", "nystromformer"])
def test_the_longest_row_is_what_the_model_has_positions_for(kind: str) -> None:
    """As many tokens run, one more does not"""
    words = tokenizer()
    sizes = SIZES | {"vocab_size": len(words), "max_position_embeddings": 32, "pad_token_id": 1} | OWN.get(kind, {})
    with torch.random.fork_rng(devices=[]):
        model = AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    longest = longest_row(words, model.config)
    assert inputs_of(model).longest == longest
    with torch.no_grad():
        model(input_ids=torch.full((1, longest), 1000))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, longest + 1), 1000))
