"""Models that cannot be given a cache, and caches that are not what was returned: one line each."""

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

from tests import tiny
from toolkit import UsageError
from toolkit.cache import CacheError, past_of, with_cache
from toolkit.capture import capture


class Unplaced(GPT2LMHeadModel):
    """Takes no positions, and does not count the mask: padding on the left moves a text."""

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, return_dict=None):
        given = {"past_key_values": past_key_values, "use_cache": use_cache, "return_dict": return_dict}
        return super().forward(input_ids, attention_mask=attention_mask, **given)


def test_a_model_that_says_something_else_is_refused() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Unplaced(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(
        CacheError, match="Unplaced with a cache gives logits that are .* apart from those without, of "
    ):
        capture(with_cache(model.eval()))


@pytest.mark.parametrize("value", [torch.nan, 0.0])
def test_a_model_whose_logits_say_nothing_keeps_its_cache(value: float) -> None:
    model = tiny.build(tiny.TIED)
    with torch.no_grad():
        model.get_submodule("transformer.ln_f").weight.fill_(value)  # type: ignore[union-attr, operator]
        model.get_submodule("transformer.ln_f").bias.fill_(0.0)  # type: ignore[union-attr, operator]
    assert len(past_of(capture(with_cache(model)))) == 4


class Strange(GPT2LMHeadModel):
    """Another cache than transformers' own is what it looks for."""

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, use_cache=None, **given):
        return past_key_values.states


def test_a_model_that_breaks_on_a_cache_is_refused() -> None:
    model = Strange(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    with pytest.raises(CacheError, match="Strange with a cache can't be called: 'DynamicCache' object has no"):
        with_cache(model)


def test_a_model_that_keeps_nothing_is_refused() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 52}
    with pytest.raises(CacheError, match="BertLMHeadModel returns no cache"):
        with_cache(BertLMHeadModel(BertConfig(vocab_size=100, **sizes)).eval())
    with pytest.raises(CacheError, match="BertForQuestionAnswering does not take past_key_values, use_cache"):
        with_cache(tiny.build("bert"))


def test_a_cache_that_is_not_what_was_returned_is_refused() -> None:
    graph = capture(with_cache(tiny.build(tiny.TIED)))
    given = tiny.inputs(tiny.build(tiny.TIED), 2, 5)
    past = dict(zip(past_of(graph), graph(**given).past_key_values, strict=True))
    more = {"input_ids": given["input_ids"][:, :1], "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
    assert graph(**more, **past).past_key_values[0].shape == (2, 4, 6, 8)
    with pytest.raises(UsageError, match=r"past_key_1 must be torch.float32 \[2, 4, 5, 8\]; got nothing; pass the"):
        graph(**more, **{name: value for name, value in past.items() if name != "past_key_1"})
    with pytest.raises(UsageError, match=r"past_key_0 must be torch.float32 \[2, 4, 5, 8\]; got torch.float16 \[2, 4"):
        graph(**more, **{name: value.half() for name, value in past.items()})
    with pytest.raises(UsageError, match=r"past_value_0 must be .*\[2, 4, 5, 8\]; got torch.float32 \[2, 4, 4, 8\]"):
        graph(**more, **{**past, "past_value_0": past["past_value_0"][:, :, 1:]})
    with pytest.raises(UsageError, match=r"attention_mask must have a column for each token, past and new, \[2, 6\]"):
        graph(input_ids=more["input_ids"], attention_mask=torch.ones(2, 1), **past)
    with pytest.raises(UsageError, match="at most 64 tokens have positions; got 65"):
        graph(input_ids=torch.ones(2, 60, dtype=torch.int64), **past)
