"""Models whose attention is not PyTorch's operator: as much of them is fused as can be, with the same answers."""

import pytest
import torch
from torch import Tensor, fx

from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.families import MODELS, build
from tests.toolkit.fusing import SAME_DB, fused, mask_of
from toolkit import Recipe, capture, transform
from toolkit.pipeline import PASSES, run
from toolkit.quantize import quantize

# two layers each; linears count by their calls. What is not named is not applied.
NORMS = {"add_norm": 4, "embeddings": 1}
BERT = {**NORMS, "qkv": 2, "rows": 2, "quantize": 8, "gelu": 2, "lookups": 1, "feed_forward": 2}
PLAIN = {**BERT, "attention_steps": 2, "attention": 2, "packing": 1, "attention_rows": 2}
GATED = {**NORMS, "rotary": 4, "gate": 2, "rows": 2, "gate_rows": 2, "per_size": 1}
COUNTS = {
    "megatron-bert": {**PLAIN, "layers": 2},
    "luke": {**PLAIN, "layers": 2},
    "bigbird": {**PLAIN, "layers": 2, "gelu_steps": 3, "gelu": 3, "quantize": 10, "add_norm": 5},
    "mpnet": {**PLAIN, "attention": 0, "biased": 2, "layers": 2, "per_size": 1},
    "deberta-v2": {**BERT, "constants": 4, "disentangled": 2, "packing": 1, "per_size": 1},
    "roformer": {**PLAIN, "rotary": 4, "quantize": 9, "per_size": 1},
    "llama": {**GATED, "norm_steps": 5, "attention": 2, "qkv": 2, "packing": 1, "quantize": 8, "attention_rows": 2},
    "llama in steps": {
        **GATED, "norm_steps": 5, "attention_steps": 2, "heads": 2, "quantize": 12, "attention_rows": 2
    },
    "modernbert": {
        **GATED, "thirds": 2, "attention": 1, "biased": 1, "packing": 1, "quantize": 9, "embeddings": 2, "lookups": 1,
        "attention_rows": 2,
    },
}  # fmt: skip


def unfused(name: str) -> fx.GraphModule:
    graph = capture(build(name))
    run(graph, PASSES)
    quantize(graph, Recipe("int"))
    return graph


def inputs(name: str, padding: str) -> dict[str, Tensor]:
    mask = mask_of(padding)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.where(mask.bool(), ids, tiny.PAD), "attention_mask": mask}


@pytest.mark.parametrize("name", MODELS)
def test_how_often_each_is_applied(name: str) -> None:
    counts = fused(unfused(name))[1]
    assert counts == {**dict.fromkeys(counts, 0), **COUNTS[name]}


@pytest.mark.parametrize("padding", ["right", "left", "scattered", "one token"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_unfused_graph(name: str, padding: str) -> None:
    source = unfused(name)
    given, real = inputs(name, padding), mask_of(padding).bool()
    with torch.no_grad():
        have, want = fused(source)[0](**given), source(**given)
    for key, value in want.items():
        assert have[key].shape == value.shape and have[key].dtype == value.dtype
        assert_sqnr(have[key][real], value[real], SAME_DB)


@pytest.mark.parametrize("padding", ["right", "left", "scattered"])
@pytest.mark.parametrize("target", ["customcpu", "aie"])
@pytest.mark.parametrize("name", MODELS)
def test_targets_answer_as_the_model_does(name: str, target: str, padding: str) -> None:
    given, real = inputs(name, padding), mask_of(padding).bool()
    with torch.no_grad():
        want, have = build(name)(**given), transform(build(name), Recipe("int"), target)(**given)
    assert_sqnr(have["start_logits"][real], want["start_logits"][real], 30)


@pytest.mark.parametrize("name", MODELS)
def test_captured_exactly(name: str) -> None:
    """Token types that are left out too: zeros for most, for BigBird of where its question ends."""
    given = inputs(name, "right")
    given["input_ids"][:, 3] = 2  # the end of a question
    with torch.no_grad():
        want, have = build(name)(**given), transform(build(name), Recipe(), "cpu")(**given)
    assert_equal_bits(have["start_logits"], want["start_logits"])
