"""What a model with a cache is asked, call after call, on one whose keys are the tokens that it has seen."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models import InputError
from models.cache import Cached
from models.generation import How, generate

END, PAD, NAMES = 0, 9, ("keys", "values")


class Model:
    """The likeliest token after a text is the sum of its tokens, modulo 10: padding that is looked at changes it."""

    def __init__(self) -> None:
        self.asked: list[list[list[int]]] = []
        self.masks: list[list[list[int]]] = []

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **past: Tensor) -> SimpleNamespace:
        assert tuple(past) in ((), NAMES)
        new = input_ids[:, None, :, None].float()
        keys = torch.cat([past["keys"], new], 2) if past else new
        assert attention_mask.shape == (len(keys), keys.shape[2])
        self.asked.append(input_ids.tolist())
        self.masks.append(attention_mask.tolist())
        total = (keys[:, 0, :, 0] * attention_mask).cumsum(1)[:, -input_ids.shape[1] :].long() % 10
        logits = torch.nn.functional.one_hot(total, 10).float()
        return SimpleNamespace(logits=logits, past_key_values=(keys, -keys))


def test_texts_are_padded_on_the_left_and_then_come_one_token_at_a_time() -> None:
    model = Model()
    found = generate(model, [[1], [2, 1, 1]], How(3), (), PAD, past=NAMES)
    assert [one.tokens for one in found] == [[1, 2, 4], [4, 8, 6]]
    assert model.asked == [[[PAD, PAD, 1], [2, 1, 1]], [[1], [4]], [[2], [8]]]
    assert model.masks[2] == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_a_text_that_has_ended_is_forgotten() -> None:
    model = Model()
    found = generate(model, [[1], [5, 5], [3, 4]], How(3), (END,), PAD, past=NAMES)
    assert [(one.tokens, one.ended) for one in found] == [([1, 2, 4], False), ([], True), ([7, 4, 8], False)]
    assert model.asked[1:] == [[[1], [7]], [[2], [4]]]
    assert model.masks[1] == [[0, 1, 1], [1, 1, 1]]


def test_with_a_cache_and_without_one_the_texts_are_the_same() -> None:
    def whole(input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return Model()(input_ids, attention_mask)

    prompts = [[3, 4, 5], [1], [2, 8, 9, 9], [4, 4]]
    assert generate(Model(), prompts, How(8), (END,), PAD, past=NAMES) == generate(whole, prompts, How(8), (END,), PAD)


def test_the_cache_holds_every_token_once() -> None:
    ask = Cached(Model(), NAMES, PAD)
    ask({3: [1, 2], 5: [4]})
    ask({3: [1, 2, 3], 5: [4, 4]})
    ask({5: [4, 4, 8]})
    assert ask.past["keys"][0, 0, :, 0].tolist() == [PAD, 4, 4, 8]
    assert ask.past["values"].shape == (1, 1, 4, 1) and ask.places == [5]


def test_nan_is_said() -> None:
    def broken(input_ids: Tensor, attention_mask: Tensor, **past: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.full((*input_ids.shape, 10), torch.nan), past_key_values=(input_ids,) * 2)

    with pytest.raises(InputError, match="not numbers"):
        generate(broken, [[1]], How(1), (), PAD, past=NAMES)
