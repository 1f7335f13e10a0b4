"""Attention with a table of positions and a mask of padding is packed as any other; with more than that it is not."""

import operator
from functools import cache

import pytest
import torch
from torch import fx, nn
from transformers import (
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    T5Config,
    T5EncoderModel,
)

from targets._attention import Attention, AttentionRows, BiasedAttention
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.conftest import isa  # noqa: F401
from tests.toolkit.families import _LOCAL, _PADDED, build
from tests.toolkit.fusing import fused, mask_of
from tests.toolkit.test_families import inputs, unfused
from tests.toolkit.test_missed import CONFIG, Segments
from toolkit import Recipe, report_of, transform

PADDINGS = ["right", "left", "scattered", "none", "one sequence", "one token"]
TABLES = ["mpnet", "modernbert"]
T5 = {"vocab_size": tiny.VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 52, "num_layers": 2, "num_heads": 4}
CLASSIFIERS = {
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**_PADDED)),
    "modernbert": lambda: ModernBertForSequenceClassification(ModernBertConfig(**_PADDED, **_LOCAL, cls_token_id=0)),
    "t5": lambda: T5EncoderModel(T5Config(**T5)),
}


@cache
def classifier(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CLASSIFIERS[name]().eval()


@cache
def lowered(name: str, precision: str, *without: str) -> fx.GraphModule:
    return transform(build(name), Recipe(precision, without=without), "customcpu")


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    ("name", "precision"),
    [("mpnet", "int"), ("mpnet", "bf16"), ("mpnet", "fp"), ("modernbert", "int"), ("modernbert", "fp")],
)
def test_packed_is_padded_at_the_real_tokens(name: str, precision: str, padding: str, isa: str) -> None:  # noqa: F811
    """Bit for bit, whatever kernels, and zeros elsewhere."""
    given, real = inputs(name, padding), mask_of(padding).bool()
    with torch.no_grad():
        have, want = lowered(name, precision)(**given), lowered(name, precision, "packing")(**given)
    for key, value in want.items():
        assert_equal_bits(have[key][real], value[real])
        assert not have[key][~real].any()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", TABLES)
def test_float32_answers_as_the_model(name: str, padding: str) -> None:
    given, real = inputs(name, padding), mask_of(padding).bool()
    with torch.no_grad():
        have, want = lowered(name, "fp")(**given), build(name)(**given)
    for key, value in have.items():
        assert_sqnr(value[real], want[key][real], 90)


@pytest.mark.parametrize("padding", ["right", "left", "scattered", "none"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_heads_that_read_position_0(name: str, padding: str) -> None:
    """A number that is there in padding too; T5's states are read as they are."""
    mask = mask_of(padding)
    given = {"input_ids": inputs("mpnet", padding)["input_ids"], "attention_mask": mask}
    graph = transform(classifier(name), Recipe("fp"), "customcpu")
    assert report_of(graph).fused["packing"] == 1
    with torch.no_grad():
        have, want = graph(**given), classifier(name)(**given)
    for key, value in have.items():
        at = mask.bool() if name == "t5" else slice(None)
        assert_sqnr(value[at], want[key][at], 90)


@pytest.mark.parametrize("name", TABLES)
def test_all_of_them_have_a_table(name: str) -> None:
    graph, _ = fused(unfused(name))
    found = [module for module in graph.modules() if isinstance(module, Attention | AttentionRows | BiasedAttention)]
    assert {type(module) for module in found} == {AttentionRows}


def test_nothing_of_modernbert_is_left_to_pytorch() -> None:
    """Whose threads would stay awake after it: sizes, and views of what is kept for each."""
    graph = lowered("modernbert", "int").graph
    left = {node.target for node in graph.nodes if node.op == "call_function"}
    assert left == {torch.ops.aten.sym_size.int, torch.ops.aten.select.int, operator.getitem}
    assert [str(node.target) for node in graph.nodes if node.op == "call_module"] == ["per_size", "calls_0"]


def test_a_mask_of_what_is_read_stays_whole() -> None:
    torch.manual_seed(0)
    model = Segments(CONFIG).eval()
    mask = mask_of("right")
    types = torch.randint(0, 2, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    ids = torch.randint(3, 90, mask.shape, generator=torch.Generator().manual_seed(0))
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    graph = transform(model, Recipe("fp"), "customcpu")
    assert report_of(graph).fused["biased"] == 2 and report_of(graph).fused["packing"] == 0
    with torch.no_grad():
        have, want = graph(**given), model(**given)
    real = mask.bool()
    assert_sqnr(have["last_hidden_state"][real], want["last_hidden_state"][real], 90)
