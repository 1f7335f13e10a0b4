"""Logits of the last token alone: those of the whole text there, and nothing else is computed by the head."""

import pytest
import torch
from torch import fx, nn

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.test_cache import bloom, llama
from toolkit import Recipe, transform
from toolkit.cache import past_of, with_cache
from toolkit.capture import capture
from toolkit.last_token import keep_last_token
from toolkit.rewrite import run

KINDS = {
    "cpu fp": ("cpu", Recipe()),
    "cpu int": ("cpu", Recipe("int")),
    "customcpu fp": ("customcpu", Recipe()),
    "customcpu bf16": ("customcpu", Recipe("bf16")),
    "customcpu int": ("customcpu", Recipe("int")),
    "customcpu weight": ("customcpu", Recipe("int", scheme="weight")),
    "customcpu int, head kept": ("customcpu", Recipe("int", keep=("lm_head",))),
}


def given(model: nn.Module) -> dict[str, torch.Tensor]:
    """Three texts, padded on the left"""
    inputs = tiny.inputs(model, 3, 17)
    return {name: value.flip(1) for name, value in inputs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_logits_of_all_tokens_there(kind: str) -> None:
    target, recipe = KINDS[kind]
    model = with_cache(tiny.build(tiny.TIED))
    whole, last = (transform(model, recipe, target, last_token=which) for which in (False, True))
    want, have = (graph(**given(model)) for graph in (whole, last))
    assert have.logits.shape == (3, 1, want.logits.shape[2])
    assert_sqnr(have.logits, want.logits[:, -1:], 60 if recipe.precision == "bf16" else 100)
    for one, other in zip(have.past_key_values, want.past_key_values, strict=True):
        assert_equal_bits(one.contiguous(), other.contiguous())


@pytest.mark.parametrize("make", [llama, bloom])
def test_other_models(make) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = with_cache(make().eval())
    graph = capture(model)
    want = graph(**given(model)).logits[:, -1:]
    assert run(graph, (keep_last_token,)) == [1]
    assert_sqnr(graph(**given(model)).logits, want, 110)


def test_the_head_reads_one_token() -> None:
    graph = transform(with_cache(tiny.build(tiny.TIED)), Recipe("int"), "customcpu", last_token=True)
    seen: list[int] = []
    for module in graph.modules():
        if getattr(module, "out_features", 0) == tiny.VOCABULARY:
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel() // args[0].shape[-1]))
    graph(**given(tiny.build(tiny.TIED)))
    assert seen == [3]


def test_a_graph_without_a_cache_stays_as_it_is() -> None:
    graph = capture(tiny.build(tiny.TIED))
    assert keep_last_token(graph) == 0 and past_of(graph) == ()


def test_logits_that_no_linear_makes_are_cut_themselves() -> None:
    graph = capture(with_cache(tiny.build(tiny.TIED)))
    output: fx.Node = graph.graph.output_node()
    with graph.graph.inserting_before(output):
        sines = graph.graph.call_function(torch.ops.aten.sin.default, (output.args[0][0],))  # type: ignore[index]
    sines.meta = dict(sines.args[0].meta)  # type: ignore[union-attr]
    output.replace_input_with(output.args[0][0], sines)  # type: ignore[index, arg-type]
    graph.recompile()
    want = graph(**given(tiny.build(tiny.TIED))).logits[:, -1:]
    assert run(graph, (keep_last_token,)) == [1]
    assert_equal_bits(graph(**given(tiny.build(tiny.TIED))).logits.contiguous(), want.contiguous())
