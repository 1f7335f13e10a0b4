"""A cache of which each token looks at the last so many alone: token by token as the whole text, on every target."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralForCausalLM
from transformers import MistralConfig as Config

from targets._attention import CachedAttention
from targets._cached import PackedCachedAttention
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.test_cache import KINDS, SMALL, TURNED_DB, by_cache, whole
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache

WINDOW = 6  # of the texts' 14 to 20 tokens
SIZES: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "sliding_window": WINDOW}
LAYERS = ["sliding_attention", "full_attention"]
MODELS: dict[str, Callable[[], nn.Module]] = {
    "every layer": lambda: MistralForCausalLM(Config(**SIZES)),
    "every other": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, layer_types=LAYERS)),
}
KINDS_DB = {"cpu fp": 100.0, "customcpu fp": 100.0, "customcpu bf16": TURNED_DB, "customcpu weight": 35.0}


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[name]().eval()


@pytest.mark.parametrize("kind", KINDS_DB)
@pytest.mark.parametrize("name", MODELS)
def test_token_by_token_is_the_whole_text(name: str, kind: str) -> None:
    target, recipe = KINDS[kind]
    cached = transform(with_cache(model_of(name)), recipe, target)
    if target == "customcpu" and (name, kind) != ("every other", "customcpu bf16"):  # Gemma's norms stay in steps there
        assert report_of(cached).fused["cached"] == 2 and not report_of(cached).missed
    for have, want in zip(by_cache(cached), whole(transform(model_of(name), recipe, target)), strict=True):
        assert_sqnr(have, want, KINDS_DB[kind])


@pytest.mark.parametrize("name, windows", [("every layer", [WINDOW, WINDOW]), ("every other", [WINDOW, None])])
def test_windows_of_a_model(name: str, windows: list[int | None]) -> None:
    graph = transform(with_cache(model_of(name)), Recipe(), "customcpu")
    assert [module.window for module in graph.modules() if isinstance(module, CachedAttention)] == windows


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("padding", [0, 3, 12])
@pytest.mark.parametrize("past, new", [(0, 1), (0, 12), (11, 1), (2, 3), (8, 4), (4, 2)])
@pytest.mark.parametrize("window", [1, 2, 6, 12, 40])
def test_the_operator_in_a_window(window: int, past: int, new: int, padding: int, kept: torch.dtype) -> None:
    """Padding before a text counts; who sees it alone gets zeros."""
    generator = torch.Generator().manual_seed(0)
    source = CachedAttention(4, 0.3, kept == torch.float32, kept, window)
    qkv = torch.randn(2 * new, (4 + 2 * 2) * 8, generator=generator)
    cache = torch.randn(2, 2, 2, past, 8, generator=generator).to(kept)
    mask = torch.ones(2, past + new, dtype=torch.int64)
    mask[1, :padding] = 0
    given: tuple[Tensor, ...] = (qkv, *cache, mask)
    (have, *parts), (want, *wanted) = PackedCachedAttention(source)(*given), source(*given)
    assert_sqnr(have, want, 110 if kept == torch.float32 else 35)
    for one, other in zip(parts, wanted, strict=True):
        assert_equal_bits(one.contiguous(), other)
    assert torch.equal(given[-1][0], torch.ones(past + new, dtype=torch.int64))
