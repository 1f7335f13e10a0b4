"""Queries and keys that are turned by position become one operator, in every layout that models have; what only looks
like it stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereModel,
    EsmConfig,
    EsmModel,
    GPTJConfig,
    GPTJModel,
    NomicBertConfig,
    NomicBertModel,
    PhiConfig,
    PhiModel,
)

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.families import _PADDED
from tests.toolkit.fusing import SAME_DB, mask_of
from tests.toolkit.small_graphs import X, assert_fused_out_of_place_alone, count, graph_of
from toolkit import Recipe, capture, report_of, transform
from toolkit.fuse.rotary import ROTARY, raise_rotary
from toolkit.pipeline import PASSES, clean, run

aten = torch.ops.aten
Turned = Callable[[Tensor, Tensor, Tensor], Tensor]  # heads [B, 2, S, 3 or so], cos and sin [1, 1, S, r] → the heads

_DECODER = {**_PADDED, "use_cache": False, "bos_token_id": 0, "eos_token_id": 2}
_GPTJ = {"vocab_size": tiny.VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "use_cache": False}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "halves": lambda: NomicBertModel(NomicBertConfig(**_PADDED)),
    "halves of a part": lambda: PhiModel(PhiConfig(**_DECODER, partial_rotary_factor=0.5)),
    "neighbours": lambda: CohereModel(CohereConfig(**_DECODER)),
    "neighbours of a part, sequence before heads": lambda: GPTJModel(GPTJConfig(**_GPTJ)),
    "queries scaled before": lambda: EsmModel(
        EsmConfig(**_PADDED, position_embedding_type="rotary"), add_pooling_layer=False
    ),
}


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


@pytest.mark.parametrize("name", MODELS)
def test_each_layer_of_a_model(name: str) -> None:
    graph = capture(model_of(name))
    run(graph, PASSES)
    assert raise_rotary(graph) == 4  # queries and keys of two layers
    clean(graph)
    assert not graph.graph.find_nodes(op="call_function", target=aten.neg.default)


@pytest.mark.parametrize("padding", ["right", "left", "one token"])
@pytest.mark.parametrize("precision", ["fp", "int"])
@pytest.mark.parametrize("name", MODELS)
def test_answers_stay(name: str, precision: str, padding: str) -> None:
    mask = mask_of(padding)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    given, model = {"input_ids": ids, "attention_mask": mask}, model_of(name)
    have, want = (
        transform(model, Recipe(precision, without=without), "customcpu") for without in ((), ("thirds", "rotary"))
    )
    assert report_of(have).fused["rotary"] == 4
    with torch.no_grad():
        assert_sqnr(first(have(**given))[mask.bool()], first(want(**given))[mask.bool()], SAME_DB)


@pytest.mark.parametrize("name", MODELS)  # some of which convert to float32 for it, and back
def test_at_bf16_the_answers_are_near_to_floats(name: str) -> None:
    mask = mask_of("right")
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    given, model = {"input_ids": ids, "attention_mask": mask}, model_of(name)
    graph = transform(model, Recipe("bf16"), "customcpu")
    assert report_of(graph).fused["rotary"] == 4
    with torch.no_grad():
        assert_sqnr(first(graph(**given))[mask.bool()], first(model(**given))[mask.bool()], 30)


def first(outputs: dict[str, Tensor]) -> Tensor:
    return next(iter(outputs.values()))


class Heads(nn.Module):
    """Two heads of x [B, S, 6], turned by `turned`."""

    def __init__(self, turned: Turned) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.5
        heads = torch.cat([y, y[..., :2]], -1).view(*x.shape[:2], 2, 4).transpose(1, 2)
        angles = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        cos, sin = (one[None, None] for one in (angles.cos(), angles.sin()))
        return self.turned(heads, cos, sin)


def half(x: Tensor) -> Tensor:
    return torch.cat([-x[..., 2:], x[..., :2]], -1)


STAYS: dict[str, Turned] = {
    "halves of another": lambda x, cos, sin: x * cos + half(x + 1) * sin,
    "halves the wrong way round": lambda x, cos, sin: x * cos + torch.cat([-x[..., :2], x[..., 2:]], -1) * sin,
    "halves that both keep their sign": lambda x, cos, sin: x * cos + torch.cat([x[..., 2:], x[..., :2]], -1) * sin,
    "unequal parts": lambda x, cos, sin: x * cos + torch.cat([-x[..., 1:], x[..., :1]], -1) * sin,
    "angles for each head": lambda x, cos, sin: x * cos.expand(1, 2, -1, -1) + half(x) * sin.expand(1, 2, -1, -1),
    "one angle for all positions": lambda x, cos, sin: x * cos[:, :, :1] + half(x) * sin[:, :, :1],
    "angles in float64": lambda x, cos, sin: x * cos.double() + half(x) * sin.double(),
    "a sum with a factor": lambda x, cos, sin: torch.add(x * cos, half(x) * sin, alpha=2),
    "heads that are no view": lambda x, cos, sin: (x + 1) * cos + half(x + 1) * sin,
}


@pytest.mark.parametrize("name", STAYS)
def test_what_only_looks_like_it_stays(name: str) -> None:
    gm = graph_of(Heads(STAYS[name]))
    want = gm(X)
    assert raise_rotary(gm) == 0
    clean(gm)
    assert_equal_bits(gm(X), want)


def changed_in_between(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    other = half(x) * sin
    x.mul_(3)
    return x * cos + other


def changed_later(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    products = x * cos, half(x) * sin
    x.mul_(3)
    return products[0] + products[1]


def of_a_part(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    part, rest = x[..., :2], x[..., 2:]
    crossed = torch.cat([-part[..., 1:], part[..., :1]], -1)
    return torch.cat([part * cos[..., :2] + crossed * sin[..., :2], rest], -1)


TURNS: dict[str, tuple[Turned, int]] = {
    "as it is": (lambda x, cos, sin: x * cos + half(x) * sin, 1),
    "everything the other way round": (lambda x, cos, sin: sin * half(x) + cos * x, 1),
    "twice": (lambda x, cos, sin: (x * cos + half(x) * sin) * 2 + (x * sin + half(x) * cos), 2),
    "then a view that takes batch and heads for one": (
        lambda x, cos, sin: (half(x) * sin + x * cos).view(x.shape[0] * 2, -1, 4), 1
    ),
    "a part, then a view of a view": (
        lambda x, cos, sin: of_a_part(x, cos, sin).unsqueeze(1).view(x.shape[0] * 2, -1, 4), 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_the_same_bits(name: str) -> None:
    turned, times = TURNS[name]
    gm = graph_of(Heads(turned))
    want = gm(X)
    assert raise_rotary(gm) == times
    clean(gm)
    assert count(gm, ROTARY) == times
    assert_equal_bits(gm(X), want)


@pytest.mark.parametrize("turned, times", [(changed_in_between, 0), (changed_later, 1)])
def test_what_changes_in_place(turned: Turned, times: int) -> None:
    assert_fused_out_of_place_alone(Heads(turned), "rotary", times)


class OfTheInput(nn.Module):
    """The second part of what looks like a half is no slice of anything: it is the input itself."""

    def forward(self, x: Tensor) -> Tensor:
        twice = torch.cat([x, x], -1)
        return twice * twice + torch.cat([-(x + 1), x], -1) * twice


def test_halves_that_are_inputs_stay() -> None:
    assert raise_rotary(graph_of(OfTheInput())) == 0
