"""RMSNorm is fused as LayerNorm is, written out in steps or as PyTorch's own operator."""

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import (
    GemmaConfig,
    GemmaModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from targets._fused import NormRows, RowsLinearAddNorm
from tests import tiny
from tests.checks import assert_sqnr
from tests.toolkit.fusing import SAME_DB, fused, mask_of, with_own_norms
from toolkit import Recipe, capture, report_of, transform
from toolkit.fuse import NAMES
from toolkit.pipeline import PASSES, run
from toolkit.quantize import quantize

SIZES = {key: value for key, value in tiny._ENCODER.items() if key != "pad_token_id"}
COMMON = {**SIZES, "num_key_value_heads": SIZES["num_attention_heads"], "use_cache": False}
KEPT = {"fp": 105, "bf16": 30}  # dB; as tests/toolkit/test_fuse_floats.py has them


def of_pytorch(model: nn.Module) -> nn.Module:
    """model, with PyTorch's RMSNorm in the place of its own"""
    for name, module in list(model.named_modules()):
        if isinstance(module, LlamaRMSNorm):
            norm = nn.RMSNorm(len(module.weight), eps=module.variance_epsilon)
            norm.weight = module.weight
            model.set_submodule(name, norm)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: LlamaModel(LlamaConfig(**COMMON)),
    "llama with PyTorch's": lambda: of_pytorch(LlamaModel(LlamaConfig(**COMMON))),
    "mistral": lambda: MistralModel(MistralConfig(**COMMON)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(**COMMON, head_dim=8)),
    "gemma": lambda: GemmaModel(GemmaConfig(**COMMON, head_dim=8)),
}
# of two layers: norms in steps, of which add_norm takes all behind a linear and a sum, and embeddings the first. Qwen's
# queries and keys have norms of their own, which are no rows. The last one is read as floats, after a sum of its own.
COUNTS = {
    "llama": (5, 4, 1),
    "llama with PyTorch's": (0, 4, 1),
    "mistral": (5, 4, 1),
    "qwen3": (9, 4, 1),
    "gemma": (5, 4, 1),
}


@cache
def build(name: str) -> nn.Module:
    return with_own_norms(MODELS[name])


@cache
def unfused(name: str) -> fx.GraphModule:
    graph = capture(build(name))
    run(graph, PASSES)
    quantize(graph, Recipe("int"))
    return graph


def inputs(padding: str) -> dict[str, Tensor]:
    mask = mask_of(padding)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.where(mask.bool(), ids, tiny.PAD), "attention_mask": mask}


@pytest.mark.parametrize("name", MODELS)
def test_how_often_each_is_applied(name: str) -> None:
    graph, counts = fused(unfused(name))
    assert tuple(counts[key] for key in ("norm_steps", "add_norm", "embeddings")) == COUNTS[name]
    norms = [module for module in graph.modules() if isinstance(module, NormRows)]
    assert len(norms) == 5 and all(module.rms for module in norms)


@pytest.mark.parametrize("padding", ["right", "scattered", "one token"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_unfused_graph(name: str, padding: str) -> None:
    given, real = inputs(padding), mask_of(padding).bool()
    with torch.no_grad():
        want = unfused(name)(**given)["last_hidden_state"][real]
        for names in (NAMES, [one for one in NAMES if one != "norm_steps"]):
            assert_sqnr(fused(unfused(name), names)[0](**given)["last_hidden_state"][real], want, SAME_DB)


@pytest.mark.parametrize("target", ["customcpu", "aie"])
@pytest.mark.parametrize("name", MODELS)
def test_targets_answer_as_the_model_does(name: str, target: str) -> None:
    given, real = inputs("right"), mask_of("right").bool()
    graph = transform(build(name), Recipe("int"), target)
    with torch.no_grad():
        want, have = build(name)(**given), graph(**given)
    assert report_of(graph).fused["add_norm"] == 4
    assert_sqnr(have["last_hidden_state"][real], want["last_hidden_state"][real], 25)


@pytest.mark.parametrize("precision", KEPT)
@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_in_float(name: str, precision: str) -> None:
    given, real = inputs("right"), mask_of("right").bool()
    recipe = Recipe(precision, without=("gate",))  # Gemma's GELU there is within 4e-5, which would be all to see
    graph = transform(build(name), recipe, "customcpu")
    with torch.no_grad():
        have, want = graph(**given), transform(build(name), Recipe(precision), "cpu")(**given)
    taken = 0 if (name, precision) == ("gemma", "bf16") else 5  # its weights are float32 there
    assert report_of(graph).fused["norm_steps"] == taken
    assert_sqnr(have["last_hidden_state"][real], want["last_hidden_state"][real], KEPT[precision])


def test_left_out() -> None:
    graph = transform(build("llama"), Recipe("int", without=("norm_steps",)), "customcpu")
    assert "norm_steps" not in report_of(graph).fused and report_of(graph).fused["add_norm"] == 0


def test_norms_that_differ_are_not_of_one_linear() -> None:
    """One linear, called before two of them: a fused one has one norm."""
    source = copy.deepcopy(unfused("llama"))
    first, second = (f"layers.{number}.self_attn.o_proj" for number in (0, 1))
    calls = [source.graph.find_nodes(op="call_module", target=name)[0] for name in (first, second)]
    calls[1].target = first
    source.recompile()
    graph, counts = fused(source)
    assert counts["add_norm"] == 2, "those behind the linears that are called once"
    assert not isinstance(graph.get_submodule(first), RowsLinearAddNorm)
    with torch.no_grad():
        given, real = inputs("right"), mask_of("right").bool()
        have, want = graph(**given), source(**given)
    assert_sqnr(have["last_hidden_state"][real], want["last_hidden_state"][real], SAME_DB)


@pytest.mark.parametrize("target", ["customcpu", "aie"])
def test_whole_layers_and_embeddings_carry_it(target: str) -> None:
    """BERT with RMSNorm in the place of LayerNorm"""
    model = tiny.build("bert")
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            model.set_submodule(name, nn.RMSNorm(module.normalized_shape, eps=module.eps))
    given, real = inputs("right"), mask_of("right").bool()
    graph = transform(model.eval(), Recipe("int"), target)
    counts = report_of(graph).fused
    assert (counts["add_norm"], counts["lookups"], counts.get("layers", 2)) == (4, 1, 2)
    with torch.no_grad():
        have, want = graph(**given)["start_logits"][real], model(**given)["start_logits"][real]
    assert_sqnr(have, want, 25)
