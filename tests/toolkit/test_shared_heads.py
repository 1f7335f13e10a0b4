"""Heads of keys and values that several queries look at, however they are repeated: the answers stay."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, repeat_kv

from tests.checks import assert_sqnr
from tests.toolkit.fusing import mask_of
from tests.toolkit.test_cache import by_cache, llama, whole
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache
from toolkit.fuse.stacked import stack

WIDE, HEADS, SIZE = 32, 4, 8
Attend = Callable[
    [Tensor, Tensor, Tensor, Tensor], Tensor
]  # query, key, value [B, heads, S, d], mask [B, S] → as query


class Shared(nn.Module):
    """One layer of attention whose `shared` heads of keys and of values `attend` takes as they are"""

    def __init__(self, attend: Attend, shared: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, WIDE)
        self.query, self.out = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.key, self.value = (nn.Linear(WIDE, shared * SIZE) for _ in range(2))
        self.attend = attend

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.words(input_ids)
        q, k, v = (
            linear(x).view(*x.shape[:2], -1, SIZE).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        y = self.attend(q, k, v, attention_mask).transpose(1, 2).reshape(x.shape)
        return {"y": self.out(y)}


def at_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask[:, None, None].bool())


def in_steps(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(2, 3) * 0.3 + (1.0 - mask[:, None, None].float()) * -1e9
    return scores.softmax(-1) @ v


def with_distances(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(q.shape[2])
    bias = -(places[:, None] - places).abs().float() + (1.0 - mask[:, None, None].float()) * -1e9
    return F.scaled_dot_product_attention(q, k, v, bias)


def repeated(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    each = q.shape[1] // k.shape[1]
    return at_once(q, *(part.repeat_interleave(each, 1) for part in (k, v)), mask)


WAYS: dict[str, tuple[Attend, int]] = {
    "one for all, at once": (at_once, 1),
    "one for all, in steps": (in_steps, 1),
    "one for all, with distances": (with_distances, 1),
    "one, repeated": (repeated, 1),
    "two, repeated": (repeated, 2),
}


@pytest.mark.parametrize("precision, db", [("fp", 100.0), ("int", 25.0)], ids=["fp", "int"])
@pytest.mark.parametrize("way", WAYS)
def test_answers_stay(way: str, precision: str, db: float) -> None:
    model, mask = Shared(*WAYS[way]).eval(), mask_of("right")
    given = {"input_ids": torch.arange(mask.numel()).view(mask.shape) % 50, "attention_mask": mask}
    with torch.no_grad():
        have, want = transform(model, Recipe(precision), "customcpu")(**given), model(**given)
    assert_sqnr(have["y"][mask.bool()], want["y"][mask.bool()], db)


@pytest.mark.parametrize("biases", list(product((False, True), repeat=3)), ids=str)
def test_linears_of_other_widths_are_stacked(biases: tuple[bool, ...]) -> None:
    """A bias that is missing is zeros, as many as the linear has outputs."""
    parts = [nn.Linear(16, width, bias=bias) for width, bias in zip((16, 8, 4), biases, strict=True)]
    x = torch.randn(3, 16)
    with torch.no_grad():
        assert_sqnr(stack(parts)(x), torch.cat([part(x) for part in parts], -1), 120.0)


class QueryLast(LlamaAttention):
    """Keys and values are kept, and repeated where `early` is set, before the query is there."""

    early = True

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, position_embeddings: Any, past_key_values: Any = None, **given: Any
    ) -> tuple[Tensor, None]:
        x, layers = hidden_states, (self.q_proj, self.k_proj, self.v_proj)
        heads = [layer(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2) for layer in layers[1:]]
        heads[0] = apply_rotary_pos_emb(heads[0], heads[0], *position_embeddings)[0]
        heads = past_key_values.update(*heads, self.layer_idx) if past_key_values is not None else heads
        repeat = partial(repeat_kv, n_rep=self.num_key_value_groups)
        k, v = map(repeat, heads) if self.early else heads
        q = layers[0](x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
        q = apply_rotary_pos_emb(q, q, *position_embeddings)[0]
        k, v = (k, v) if self.early else map(repeat, heads)
        causal = given["attention_mask"] is None
        y = F.scaled_dot_product_attention(q, k, v, given["attention_mask"], is_causal=causal, scale=self.scaling)
        return self.o_proj(y.transpose(1, 2).reshape(x.shape)), None


@pytest.mark.parametrize("early", [True, False], ids=["repeated before", "repeated after"])
def test_a_query_that_is_made_last(early: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        model = llama().eval()
    for layer in model.model.layers:  # type: ignore[union-attr]
        layer.self_attn.__class__, layer.self_attn.early = QueryLast, early
    graph = transform(with_cache(model), Recipe(), "customcpu")
    assert report_of(graph).fused["cached"] == 2
    for have, want in zip(by_cache(graph), whole(model), strict=True):
        assert_sqnr(have, want, 100.0)
