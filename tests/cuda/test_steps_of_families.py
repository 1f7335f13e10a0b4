"""Whose steps of `generate` are captured, and what is said of those that are not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from targets.cuda.gate import CudaGate
from targets.cuda.linear import CudaRowsLinearGate
from targets.cuda.rotary import CudaRotary
from tests.toolkit.test_cache import SMALL
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache

SIZES: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "Qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "Mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "Gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES, head_dim=8)),
    "Cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2)),
}


@pytest.mark.parametrize("precision", ["bf16", "int"])
@pytest.mark.parametrize("name", MODELS)
def test_captured(name: str, precision: str) -> None:
    graph = transform(with_cache(MODELS[name]()), Recipe(precision), "cuda")
    report = report_of(graph)
    assert not report.missed and report.fused["cached"] == 2
    kinds = [type(graph.get_submodule(str(node.target))) for node in graph.graph.find_nodes(op="call_module")]
    gate = CudaRowsLinearGate if precision == "int" else CudaGate
    assert kinds.count(CudaRotary) == kinds.count(gate) == 2
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.opswap.rotary.default)


def test_heads_that_are_no_views_are_not() -> None:
    """Qwen3 normalizes each."""
    graph = transform(with_cache(Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))), Recipe("int"), "cuda")
    assert [entry["what"] for entry in report_of(graph).missed] == ["cached", "steps"]
