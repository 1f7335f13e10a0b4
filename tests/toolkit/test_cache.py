"""A graph with a cache says token by token what the one without says of whole texts, on every target and precision."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from targets._place import place
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from toolkit import Recipe, UsageError, report_of, transform
from toolkit.cache import past_of, with_cache
from toolkit.capture import capture
from toolkit.inputs import KEY

STOCK = ("attention", "cached")
KINDS = {
    "cpu fp": ("cpu", Recipe()),
    "cpu bf16": ("cpu", Recipe("bf16")),
    "cpu fp16": ("cpu", Recipe("fp16")),
    "cpu int": ("cpu", Recipe("int")),
    "customcpu fp": ("customcpu", Recipe()),
    "customcpu bf16": ("customcpu", Recipe("bf16")),
    "customcpu int": ("customcpu", Recipe("int")),
    "customcpu static": ("customcpu", Recipe("int", scheme="static")),
    "customcpu weight": ("customcpu", Recipe("int", scheme="weight")),
    "customcpu weight, PyTorch's attention": ("customcpu", Recipe("int", scheme="weight", without=STOCK)),
    "aie int": ("aie", Recipe("int")),
    "hpu fp8": ("hpu", Recipe("fp8")),
}
LENGTHS, NEW = (20, 14, 17), 10  # of three texts; so many of their last tokens come one by one
# an attention over more or fewer keys at once rounds otherwise, and with that a level may turn, 1/255 of a range
SAME_DB = {"bf16": 40.0, "fp16": 55.0, "int": 40.0, "fp8": 40.0}
TURNED_DB = 30.0  # at bf16, with weights this large: as near as either is to float32
WEIGHT_DB = 60.0  # no levels turn, but attention to the whole text rounds to bfloat16 what a token's own does not
SMALL = {"vocab_size": tiny.VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 52, "max_position_embeddings": tiny.POSITIONS, "initializer_range": 0.3}  # fmt: skip


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2))


def mistral() -> nn.Module:
    """Its window is shorter than the texts."""
    return MistralForCausalLM(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=6))


def bloom() -> nn.Module:
    """It takes no positions: it counts the mask, for what it adds to the scores."""
    return BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3))


@cache
def language_model() -> nn.Module:
    return tiny.build(tiny.TIED)


@cache
def texts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, tiny.VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def by_cache(graph: fx.GraphModule) -> list[Tensor]:
    """→ the logits of the last NEW tokens of all texts, one call a token; the second text drops out half way"""
    longest, found, past = max(LENGTHS), [], dict[str, Tensor]()
    rows = torch.stack([nn.functional.pad(text, (longest - len(text), 0), value=tiny.PAD) for text in texts()])
    mask = torch.stack([(torch.arange(longest) >= longest - length).long() for length in LENGTHS])
    for end in range(longest - NEW + 1, longest + 1):
        if end == longest - NEW // 2:
            rows, mask = rows[[0, 2]], mask[[0, 2]]
            past = {name: value[[0, 2]] for name, value in past.items()}
        start = end - 1 if past else 0
        made = graph(input_ids=rows[:, start:end], attention_mask=mask[:, :end], **past)
        past = dict(zip(past_of(graph), made.past_key_values, strict=True))
        found.append(made.logits[:, -1])
    return found


def whole(call: Callable[..., object]) -> list[Tensor]:
    """→ what by_cache gives, from a model without a cache that is given each text alone"""
    found = []
    for step in range(NEW):
        there = [0, 1, 2] if step + 1 < NEW - NEW // 2 else [0, 2]
        rows = [texts()[row][: LENGTHS[row] - NEW + 1 + step][None] for row in there]
        with torch.no_grad():
            made = [call(input_ids=row, attention_mask=torch.ones_like(row)) for row in rows]
        found.append(torch.cat([one.logits[:, -1] for one in made]))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_token_by_token_is_the_whole_text(kind: str) -> None:
    target, recipe = KINDS[kind]
    data = [tiny.inputs(language_model(), 3, 17)] if recipe.scheme == "static" else None
    plain = transform(language_model(), recipe, target, data=data)
    cached = transform(with_cache(language_model()), recipe, target, data=data)
    assert past_of(plain) == () and len(past_of(cached)) == 4
    assert replace(report_of(cached), fused={}) == replace(report_of(plain), fused={})
    layers = 2 if target in ("customcpu", "aie") and recipe.without != STOCK else 0
    assert [report_of(graph).fused.get("cached", 0) for graph in (cached, plain)] == [layers, 0]
    weight_db = 100.0 if recipe.without == STOCK else WEIGHT_DB
    for have, want in zip(by_cache(cached), whole(plain), strict=True):
        assert_sqnr(have, want, weight_db if recipe.scheme == "weight" else SAME_DB.get(recipe.precision, 100.0))


@pytest.mark.parametrize(
    "kind, db", [("customcpu fp", 100.0), ("customcpu bf16", TURNED_DB), ("customcpu weight", SAME_DB["bf16"])]
)
@pytest.mark.parametrize("shared", [4, 2, 1])
def test_keys_that_are_turned_before_they_are_kept(kind: str, db: float, shared: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=shared)).eval()
    target, recipe = KINDS[kind]
    plain, cached = (transform(one, recipe, target) for one in (model, with_cache(model)))
    assert report_of(cached).fused["rotary"] == 4 and report_of(cached).fused["cached"] == 2
    assert report_of(cached).fused["qkv"] == 2
    for have, want in zip(by_cache(cached), whole(plain), strict=True):
        assert_sqnr(have, want, db)


@pytest.mark.parametrize("make", [llama, mistral, bloom])
def test_other_architectures(make: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    for have, want in zip(by_cache(capture(with_cache(model))), whole(model), strict=True):
        assert_sqnr(have, want, 100.0)


@pytest.mark.parametrize("make", [language_model, llama], ids=["gpt2", "llama"])
def test_written_out_in_steps(make: Callable[[], nn.Module]) -> None:
    """Each layer's, not only the first one's: all have a cache of one length."""
    model = copy.deepcopy(make()).eval()
    model.set_attn_implementation("eager")
    graph = transform(with_cache(model), Recipe(), "customcpu")
    assert tuple(report_of(graph).fused[name] for name in ("attention_steps", "cached")) == (2, 2)
    for have, want in zip(by_cache(graph), whole(model), strict=True):
        assert_sqnr(have, want, 60.0)


@pytest.mark.parametrize("batch, sequence", [(1, 1), (3, 17), (2, tiny.POSITIONS)])
def test_called_without_a_cache_it_is_the_graph_without_one(batch: int, sequence: int) -> None:
    given = tiny.inputs(language_model(), batch, sequence)
    real = given["attention_mask"].bool()
    have, want = (capture(model)(**given).logits for model in (with_cache(language_model()), language_model()))
    assert_equal_bits(have[real], want[real])


def test_it_ignores_what_the_model_ignores() -> None:
    """GPT-2 adds what token types say, so a graph that is not made for them refuses them, with a cache too."""
    given = {**tiny.inputs(language_model(), 2, 5), "token_type_ids": torch.ones(2, 5, dtype=torch.int64)}
    for model in (language_model(), with_cache(language_model())):
        with pytest.raises(UsageError, match="got also token_type_ids"):
            capture(model)(**given)


def test_the_model_stays_as_it_was() -> None:
    model = tiny.build(tiny.TIED)
    kind, before = type(model), set(vars(model))
    made = with_cache(model)
    assert type(model) is kind and set(vars(model)) == before and isinstance(made, kind)
    assert {id(one) for one in made.parameters()} == {id(one) for one in model.parameters()}
    assert len(past_of(capture(made))) == 4 and past_of(capture(model)) == ()


def test_a_cache_stays_in_its_own_dtype() -> None:
    graph = transform(with_cache(language_model()), Recipe("bf16"))
    made = graph(**tiny.inputs(language_model(), 2, 5))
    assert made.logits.dtype == torch.float32
    assert {one.dtype for one in made.past_key_values} == {torch.bfloat16}


def test_a_cache_stays_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = transform(with_cache(language_model()))
    ran = []

    def wrap(moved: fx.GraphModule) -> Callable[..., object]:
        def run(**given: Tensor) -> object:
            ran.append(moved(**given))
            return ran[-1]

        return run

    place(graph, torch.device("cpu"), wrap)
    monkeypatch.setattr(Tensor, "cpu", Tensor.clone)  # as from a GPU
    made = graph(**tiny.inputs(language_model(), 2, 5))
    assert made.logits is not ran[0].logits and torch.equal(made.logits, ran[0].logits)
    assert all(have is there for have, there in zip(made.past_key_values, ran[0].past_key_values, strict=True))


def test_positions_are_the_real_tokens_counted() -> None:
    graph = capture(with_cache(language_model()))
    ids = texts()[0][None, :4]
    padded = torch.cat([torch.full((1, 3), tiny.PAD), ids], 1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    have = graph(input_ids=padded, attention_mask=mask)
    given = graph(input_ids=padded, attention_mask=mask, position_ids=torch.tensor([[0, 0, 0, 0, 1, 2, 3]]))
    assert_equal_bits(have.logits, given.logits)
    assert_sqnr(have.logits[:, 3:], graph(input_ids=ids).logits, 100.0)
    assert graph.meta[KEY].names[:3] == ("input_ids", "attention_mask", "position_ids")
