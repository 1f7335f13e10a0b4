"""Quantized graphs before and after fusing, on reference arithmetic alone; inputs padded in every way."""

import copy
from collections.abc import Callable, Collection
from functools import cache

import torch
from torch import Tensor, fx, nn
from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from tests import tiny
from tests.activations import ACTIVATIONS
from tests.checks import assert_sqnr
from toolkit import Recipe, capture
from toolkit.fuse import NAMES
from toolkit.pipeline import PASSES, fuse, run
from toolkit.quantize import QuantizedLinear, quantize

# Unfused and fused differ in the order of float sums, about 140 dB here. That may turn a quantized level at a rounding
# edge, one of some ten thousand: an error of 1/127 of a row's largest value in one element, which leaves 65 dB or more.
# Attention to one token of padding, or one level too many in a zero point, leaves less than 40.
SAME_DB = 60.0

HEADS = {"classifier": AutoModelForSequenceClassification, "encoder": AutoModel}


@cache
def model_of(name: str) -> nn.Module:
    """name: one that tiny knows, with a key of HEADS after it or not, "classifier" or "shared layers" """
    base, _, kind = name.partition(" ")
    if kind in HEADS:
        torch.manual_seed(0)
        return HEADS[kind].from_config(tiny.build(base).config).eval()
    if name not in ("classifier", "shared layers"):
        return tiny.build(name)
    torch.manual_seed(0)
    if name == "classifier":
        return BertForSequenceClassification(BertConfig(**tiny._ENCODER)).eval()
    return AlbertForQuestionAnswering(AlbertConfig(**tiny._ENCODER, embedding_size=16, hidden_act="gelu")).eval()


def with_own_norms(make: Callable[[], nn.Module]) -> nn.Module:
    """→ what `make` makes, the same each time, its norms with weights that are not all ones"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        for key, value in model.named_parameters():
            if key.endswith("norm.weight"):
                nn.init.uniform_(value, 0.5, 1.5)
    return model


@cache
def unfused(name: str, how: str = "symmetric", keep: tuple[str, ...] = ("qa_outputs",)) -> fx.GraphModule:
    """how: a key of ACTIVATIONS → the quantized graph, with no target yet"""
    graph = capture(model_of(name))
    run(graph, PASSES)
    quantize(graph, Recipe("int", keep=keep))
    for module in graph.modules():
        if isinstance(module, QuantizedLinear):
            module.activation = ACTIVATIONS[how]
    return graph


def fused(graph: fx.GraphModule, names: Collection[str] = NAMES) -> tuple[fx.GraphModule, dict[str, int]]:
    """→ a fused copy of `graph`, and the counts"""
    twin = copy.deepcopy(graph)
    return twin, fuse(twin, names)


def mask_of(kind: str) -> Tensor:
    """→ an attention mask int64 [B, S]"""
    lengths = torch.tensor([1, 9, 12, 4])
    right = (torch.arange(12) < lengths[:, None]).long()
    masks = {
        "right": right,
        "left": right.flip(1),
        "none": torch.ones(3, 11, dtype=torch.int64),
        "scattered": torch.tensor([[0, 1, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1]]),
        "one sequence": right[1:2],
        "one token": torch.ones(3, 1, dtype=torch.int64),
        "one token of one": torch.ones(1, 1, dtype=torch.int64),
    }
    return masks[kind]


def inputs(name: str, mask: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """→ random ids and types, the padding index where the mask is 0"""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=generator)
    given = {"input_ids": torch.where(mask.bool(), ids, tiny.PAD), "attention_mask": mask}
    if getattr(model_of(name).config, "type_vocab_size", 1) > 1:
        given["token_type_ids"] = torch.randint(0, 2, mask.shape, generator=generator) * mask
    return given


def assert_same(
    actual: fx.GraphModule, expected: fx.GraphModule, given: dict[str, Tensor], packed: bool, db: float = SAME_DB
) -> None:
    """Every output alike at the real tokens, and zeros elsewhere if the graph is packed."""
    real = given["attention_mask"].bool()
    with torch.no_grad():
        have, want = actual(**given), expected(**given)
    assert type(have) is type(want)
    for name, value in want.items():
        assert have[name].shape == value.shape and have[name].dtype == value.dtype
        assert_sqnr(have[name][real], value[real], db)
        assert not packed or not have[name][~real].any()
