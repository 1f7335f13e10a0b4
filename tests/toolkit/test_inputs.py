"""What a graph is called with: integers of any width, and masks of any kind."""

import pytest
import torch

from tests import tiny
from tests.checks import assert_equal_bits
from toolkit import Recipe, UsageError, transform

TARGETS = ["cpu", "customcpu"]


@pytest.fixture(scope="module", params=TARGETS)
def called(request):
    """A quantized graph for each target, and what it is called with."""
    model = tiny.build("bert")
    return transform(model, Recipe("int"), request.param), tiny.inputs(model, 2, 7)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
def test_integers_of_another_width(called, dtype):
    graph, inputs = called
    have, want = graph(**{name: value.to(dtype) for name, value in inputs.items()}), graph(**inputs)
    assert_equal_bits(have.start_logits, want.start_logits)
    assert_equal_bits(have.end_logits, want.end_logits)


MASKS = {"bool": lambda mask: mask.bool(), "one half": lambda mask: mask * 0.5, "two": lambda mask: mask * 2}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_that_is_not_zero_is_real(called, kind):
    graph, inputs = called
    given = {**inputs, "attention_mask": MASKS[kind](inputs["attention_mask"])}
    real = inputs["attention_mask"].bool()
    assert_equal_bits(graph(**given).start_logits[real], graph(**inputs).start_logits[real])


@pytest.mark.parametrize("name", ["input_ids", "token_type_ids"])
def test_ids_that_are_no_integers_are_refused(called, name):
    graph, inputs = called
    with pytest.raises(UsageError, match=f"{name} must be integers; got torch.float32; pass int64"):
        graph(**{**inputs, name: inputs[name].float()})
