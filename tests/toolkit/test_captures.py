"""What tests/captures.py spares the other tests: a program of the same structure is the model's own."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering

from tests import captures, tiny
from tests.checks import assert_equal_bits
from toolkit import capture
from toolkit.cache import with_cache
from toolkit.capture import replace_conv1d

EVERY = [*tiny.BUILDERS, tiny.TIED]


def assert_is(model: nn.Module, exports: int) -> None:
    """The captured graph is the model, and so many structures were new."""
    before = len(captures._made)
    graph, given = capture(model), tiny.inputs(model, 3, 17)
    assert len(captures._made) - before == exports
    same = copy.deepcopy(model)
    replace_conv1d(same)
    with torch.no_grad():
        assert_equal_bits(graph(**given)[0], same(**given, use_cache=False)[0])
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert sum(parameter.data_ptr() in own for parameter in graph.parameters()) > 0.6 * len(own)  # Conv1D are copies


@pytest.mark.parametrize("name", EVERY)
def test_other_weights_are_no_other_structure(name):
    capture(tiny.build(name))
    assert_is(tiny.build(name, seed=3), 0)


def test_what_changes_the_arithmetic_is_another_structure():
    def build(**settings):
        torch.manual_seed(0)
        return BertForQuestionAnswering(BertConfig(**{**tiny._ENCODER, **settings})).eval()

    class Doubled(BertForQuestionAnswering):
        def forward(self, input_ids, attention_mask=None, token_type_ids=None, **given):
            return super().forward(2 * input_ids % 5, attention_mask, token_type_ids, **given)

    capture(build())
    assert_is(build(layer_norm_eps=0.1), 1)
    assert_is(build(hidden_act="relu"), 1)
    assert_is(Doubled(build().config).eval(), 1)
    scaled = build()
    scaled.bert.encoder.layer[1].attention.self.scaling = 0.25
    assert_is(scaled, 1)
    positions = build()
    positions.bert.embeddings.position_ids = positions.bert.embeddings.position_ids.flip(1)
    assert_is(positions, 1)
    tied = build()
    tied.bert.encoder.layer[1].output.dense.weight = tied.bert.encoder.layer[0].output.dense.weight
    assert_is(tied, 1)


def test_a_cache_too():
    capture(with_cache(tiny.build(tiny.TIED)))
    before = len(captures._made)
    capture(with_cache(tiny.build(tiny.TIED, seed=3)))  # tried against the model itself there
    assert len(captures._made) == before
