"""Whose steps of `generate` are captured, and what is said of those that are not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    HunYuanDenseV1Config,
    HunYuanDenseV1ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from targets.cuda.gate import CudaGate
from targets.cuda.linear import CudaRowsLinearGate
from targets.cuda.rotary import CudaRotary
from tests.checks import assert_sqnr
from tests.toolkit.test_cache import SMALL
from toolkit import Recipe, report_of, transform
from toolkit.cache import past_of, with_cache

SIZES: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "Qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "Mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "Gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES, head_dim=8)),
    "Qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "Gemma 3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8)),
    "GPT-NeoX": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)),
    "Phi-3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES, pad_token_id=0)),
    "Cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2)),
}


# Gemma 3's norms of heads are written out in two types at bf16, and stay so
@pytest.mark.parametrize(
    "name, precision", [(name, one) for name in MODELS for one in ("bf16", "int") if (name, one) != ("Gemma 3", "bf16")]
)
def test_captured(name: str, precision: str) -> None:
    graph = transform(with_cache(MODELS[name]()), Recipe(precision), "cuda")
    report = report_of(graph)
    assert not report.missed and report.fused["cached"] == 2
    kinds = [type(graph.get_submodule(str(node.target))) for node in graph.graph.find_nodes(op="call_module")]
    gate = CudaRowsLinearGate if precision == "int" else CudaGate
    assert kinds.count(CudaRotary) == 2 and kinds.count(gate) == report.fused["gate"]
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.opswap.rotary.default)


@pytest.mark.parametrize("name", ["Qwen3", "Gemma 3", "GPT-NeoX", "Phi-3"])
def test_answers_as_the_model_does(name: str) -> None:
    torch.manual_seed(0)
    model, ids = MODELS[name]().eval(), torch.arange(5, 11)[None]
    graph = transform(with_cache(model), Recipe("fp"), "cuda")
    with torch.no_grad():
        first = graph(input_ids=ids[:, :5])
        past = dict(zip(past_of(graph), first.past_key_values, strict=True))
        step = graph(input_ids=ids[:, 5:], attention_mask=torch.ones_like(ids), **past)
        assert_sqnr(torch.cat([first.logits, step.logits], 1), model(input_ids=ids).logits, 90)


def test_heads_that_are_no_views_are_not() -> None:
    """HunYuan normalizes each when it is turned already."""
    model = HunYuanDenseV1ForCausalLM(HunYuanDenseV1Config(**SIZES, head_dim=8))
    graph = transform(with_cache(model), Recipe("int"), "cuda")
    assert [entry["what"] for entry in report_of(graph).missed] == ["cached", "steps"]
