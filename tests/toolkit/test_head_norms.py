"""Heads that a model normalizes before it turns them: one operator does both, and what follows finds its linears."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from transformers import (
    Exaone4Config,
    Exaone4ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.fusing import SAME_DB, mask_of, with_own_norms
from tests.toolkit.small_graphs import X, count, graph_of
from tests.toolkit.test_cache import KINDS, SMALL, TURNED_DB, by_cache, whole
from tests.toolkit.test_rotary import half
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache
from toolkit.fuse.head_norms import unnormed
from toolkit.fuse.rotary import ROTARY, raise_rotary
from toolkit.pipeline import clean

SIZES: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
# Gemma's are normalized with their heads before the sequence, by weights that are stored less 1.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8)),
    "exaone4": lambda: Exaone4ForCausalLM(Exaone4Config(**SIZES)),
}
IN_STEPS = "gemma3", "bf16"  # whose norms are written out in two types, and stay so
ALONE = torch.tensor([0.5, 2.0, -1.0, 1.5])


def model_of(name: str) -> nn.Module:
    return with_own_norms(MODELS[name])


@pytest.mark.parametrize("padding", ["right", "left", "one token"])
@pytest.mark.parametrize("precision", ["fp", "int"])
@pytest.mark.parametrize("name", MODELS)
def test_whole_texts(name: str, precision: str, padding: str) -> None:
    mask = mask_of(padding)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    model = model_of(name)
    have, want = (transform(model, Recipe(precision, without=names), "customcpu") for names in ((), ("rotary",)))
    assert report_of(have).fused["rotary"] == 4
    with torch.no_grad():
        made, wanted = (graph(input_ids=ids, attention_mask=mask).logits[mask.bool()] for graph in (have, want))
    assert_sqnr(made, wanted, SAME_DB if precision == "int" else 100.0)


@pytest.mark.parametrize(
    "kind, db", [("customcpu fp", 100.0), ("customcpu bf16", TURNED_DB), ("customcpu weight", 40.0), ("cpu fp", 100.0)]
)
@pytest.mark.parametrize("name", MODELS)
def test_token_by_token(name: str, kind: str, db: float) -> None:
    (target, recipe), model = KINDS[kind], model_of(name)
    plain, cached = (transform(one, recipe, target) for one in (model, with_cache(model)))
    if target == "customcpu" and (name, recipe.precision) != IN_STEPS:
        assert [report_of(cached).fused[one] for one in ("rotary", "cached", "qkv")] == [4, 2, 2]
    for have, want in zip(by_cache(cached), whole(plain), strict=True):
        assert_sqnr(have, want, db)


def test_one_norm_for_queries_another_for_keys() -> None:
    """What turns both at once takes the weights of each."""
    model = model_of("qwen3")
    graph = transform(with_cache(model), Recipe(), "customcpu")
    held = [value for name, value in graph.named_buffers() if name.startswith("weight_of_heads") and len(value) == 48]
    norms = [layer.self_attn for layer in model.model.layers]  # type: ignore[union-attr, attr-defined]
    want = [torch.cat([one.q_norm.weight.repeat(4), one.k_norm.weight.repeat(2)]) for one in norms]
    assert len(held) == 2
    for have, wanted in zip(held, want, strict=True):
        assert_equal_bits(have, wanted.detach())


def turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return heads * cos + half(heads) * sin


class Normed(nn.Module):
    """Heads that `norm` normalizes, before or after they are exchanged with the sequence, and that are turned then"""

    def __init__(self, norm: Callable[[Tensor], Tensor], before: bool = False) -> None:
        super().__init__()
        self.norm, self.before = norm, before

    def forward(self, x: Tensor) -> Tensor:
        view = torch.cat([x, x[..., :2] * 3], -1).view(*x.shape[:2], 2, 4)
        heads = self.norm(view).transpose(1, 2) if self.before else self.norm(view.transpose(1, 2))
        angles = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        return turned(heads, angles.cos()[None, None], angles.sin()[None, None])


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "with a weight": lambda x: F.rms_norm(x, (4,), ALONE, 1e-6),
    "without": lambda x: F.rms_norm(x, (4,), None, 1e-3),
    "without eps": lambda x: F.rms_norm(x, (4,), ALONE),
}
STAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "a mean that is taken out": lambda x: F.layer_norm(x, (4,), ALONE),
    "over heads as well": lambda x: F.rms_norm(x, (2, 4), None, 1e-6),
    "a weight that is computed": lambda x: F.rms_norm(x, (4,), x[0, 0, 0], 1e-6),
    "something in between": lambda x: F.rms_norm(x, (4,), ALONE, 1e-6) + 1,
}


@pytest.mark.parametrize("before", [False, True], ids=["heads first", "sequence first"])
@pytest.mark.parametrize("name", NORMS)
def test_norms_of_heads(name: str, before: bool) -> None:
    gm = graph_of(Normed(NORMS[name], before))
    want = gm(X)
    assert raise_rotary(gm) == 1
    clean(gm)
    assert count(gm, ROTARY) == 1 and count(gm, torch.ops.aten.rms_norm.default) == 0
    assert_sqnr(gm(X), want, 120)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_without_eps_it_is_pytorchs(dtype: torch.dtype) -> None:
    """That of float32, whatever is normalized: of numbers as small it is most of the sum."""
    x = (torch.randn(3, 8) * 1e-2).to(dtype)
    graph = fx.Graph()
    given = graph.placeholder("x")
    given.meta["val"] = x
    heads = graph.call_function(torch.ops.aten.rms_norm.default, (given, [8]))
    heads.meta["val"] = x
    norm = unnormed(fx.GraphModule(nn.Module(), graph), heads)[1]
    assert norm is not None
    mine = x.float() * (x.float().square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight
    assert_sqnr(mine, F.rms_norm(x, (8,)).float(), 45)


@pytest.mark.parametrize("name", STAYS)
def test_what_only_looks_like_it_stays(name: str) -> None:
    swapped = name == "over heads as well"  # as their dimensions are the last two
    gm = graph_of(Normed(STAYS[name], before=swapped))
    want = gm(X)
    assert raise_rotary(gm) == 0
    clean(gm)
    assert_equal_bits(gm(X), want)
