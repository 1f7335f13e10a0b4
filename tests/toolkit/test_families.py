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

# two layers each; linears count by their calls. DeBERTa's query and key project its table of distances too, which is no
# row of tokens, so that they quantize for themselves.
NAMES = (
    "attention_steps",
    "thirds",
    "rotary",
    "attention",
    "heads",
    "biased",
    "gate",
    "rows",
    "packing",
    "quantize",
    "gelu",
    "gate_rows",
    "feed_forward",
    "layers",
    "per_size",
)
COUNTS = {
    "megatron-bert": (2, 0, 0, 2, 0, 0, 2, 1, 8, 2, 2, 2),
    "luke": (2, 0, 0, 2, 0, 0, 2, 1, 8, 2, 2, 2),
    "bigbird": (2, 0, 0, 2, 0, 0, 2, 1, 10, 3, 2, 2),
    "mpnet": (2, 0, 0, 0, 0, 2, 2, 0, 8, 2, 2, 0),
    "deberta-v2": (0, 0, 0, 0, 0, 0, 13, 0, 8, 2, 2, 0),
    "roformer": (2, 0, 4, 2, 0, 0, 2, 1, 9, 2, 2, 0),
    "llama": (0, 0, 4, 2, 0, 0, 2, 0, 10, 0, 0, 0),
    "llama in steps": (2, 0, 4, 2, 0, 0, 2, 0, 10, 0, 0, 0),
    "modernbert": (0, 2, 4, 1, 0, 1, 2, 0, 9, 0, 0, 0),
}


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
    assert tuple(counts[key] for key in NAMES) == COUNTS[name]


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


@pytest.mark.parametrize("target", ["customcpu", "aie"])
@pytest.mark.parametrize("name", MODELS)
def test_targets_answer_as_the_model_does(name: str, target: str) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
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
