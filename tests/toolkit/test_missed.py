"""What fusions left alone is in the report, with why, and nothing is where all went well."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, MistralConfig, MistralForCausalLM

from tests import tiny
from tests.toolkit.fusing import model_of
from tests.toolkit.test_cache import SMALL, language_model, mistral
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache
from toolkit.fuse.mask import MOST


def missed(model: nn.Module, precision: str = "int", **how: object) -> list[dict[str, object]]:
    found = report_of(transform(model.eval(), Recipe(precision, **how), "customcpu"))  # type: ignore[arg-type]
    assert found.as_json()["missed"] == list(found.missed)
    return list(found.missed)


CONFIG = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=52,
                    max_position_embeddings=64)  # fmt: skip


class Mean(BertModel):
    """The mean of all positions, as sentence embeddings are made"""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **given: object) -> dict[str, Tensor]:
        return {"mean": super().forward(input_ids, attention_mask).last_hidden_state.mean(1)}


class Near(BertModel):
    """Tokens look at their neighbours alone."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **given: object) -> dict[str, Tensor]:
        place = torch.arange(input_ids.shape[1])
        near = (place[:, None] - place).abs() < 4
        return super().forward(input_ids, attention_mask[:, None, None].bool() & near)


class Segments(BertModel):
    """Tokens look at those of their own type alone."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        same = token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]
        return super().forward(input_ids, attention_mask[:, None, None].bool() & same, token_type_ids)


def wide() -> nn.Module:
    """A window of more tokens than masks are tried with"""
    sizes = {**SMALL, "max_position_embeddings": 4 * MOST, "sliding_window": MOST}
    return MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=2))


@pytest.mark.parametrize("precision", ["int", "bf16", "fp"])
@pytest.mark.parametrize("name", [*tiny.BUILDERS, "classifier"])
def test_nothing_is_missed_of_what_is_fused(name: str, precision: str) -> None:
    assert missed(model_of(name), precision) == []


def test_what_attention_leaves_to_a_cache_is_not_missed() -> None:
    assert missed(language_model()) == missed(with_cache(language_model())) == []


def test_what_was_not_asked_for_is_not_missed() -> None:
    assert missed(mistral(), without=("attention", "heads", "biased")) == []


@pytest.mark.parametrize(
    ("make", "what", "why"),
    [
        (lambda: Near(CONFIG), "attention", "its mask is neither the padding's nor causal"),
        (mistral, "attention", "it is not plain attention over heads of one sequence"),
        (lambda: with_cache(wide()), "cached", "its mask is neither causal nor a window of the last tokens"),
    ],
    ids=["a mask of its own", "keys that heads share", "a window too wide to try, with a cache"],
)
def test_attention_that_is_left_alone(make: Callable[[], nn.Module], what: str, why: str) -> None:
    names = ["scaled_dot_product_attention", "scaled_dot_product_attention_1"]
    assert missed(make(), without=("heads", "biased")) == [{"what": what, "why": why, "names": names}]


def test_attention_that_another_fusion_takes() -> None:
    """With a table of positions."""
    assert missed(Near(CONFIG)) == []


def test_keys_that_heads_share_are_no_rows() -> None:
    """A window of tokens is no reason to keep padding, what repeats keys for several heads is."""
    assert [found["why"] for found in missed(mistral())] == ["what reads it looks from one token at another"]


def test_padding_that_stays_for_a_mask_of_what_is_read() -> None:
    why = "what is added to its scores is more than a table of positions and a mask of padding"
    assert missed(Segments(CONFIG)) == [{"what": "packing", "why": why, "names": ["attention", "attention_1"]}]


def test_padding_that_a_mean_looks_at() -> None:
    (found,) = missed(Mean(CONFIG, add_pooling_layer=False))
    assert (found["what"], found["why"]) == ("packing", "what reads it looks from one token at another")
    assert len(found["names"]) == 1  # type: ignore[arg-type]
