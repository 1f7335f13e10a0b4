"""DeBERTa's attention is one operator, in each of its kinds, with the same answers; what is only like it stays."""

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification

from targets._disentangled import DisentangledAttention
from tests.checks import assert_equal_bits, assert_sqnr
from tests.operators.conftest import isa  # noqa: F401
from tests.toolkit.families import _BIASED, _PADDED
from tests.toolkit.fusing import SAME_DB, mask_of
from tests.toolkit.test_families import inputs
from toolkit import Recipe, report_of, transform

PADDINGS = ["right", "left", "scattered", "none", "one sequence", "one token"]
KINDS = {
    "both": {},
    "v3": {"norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0},
    "distances to keys": {"pos_att_type": ["c2p"]},
    "distances to queries": {"pos_att_type": ["p2c"]},
    "projections apart": {"share_att_key": False},
    "no buckets": {"position_buckets": -1, "max_relative_positions": 8},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu"},
}


@cache
def build(kind: str, head: type[nn.Module] = DebertaV2ForQuestionAnswering) -> nn.Module:
    torch.manual_seed(0)
    model = head(DebertaV2Config(**{**_PADDED, **_BIASED, **KINDS[kind]})).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):  # as initialized, all scores are nearly equal
                module.weight.mul_(8)
    return model


@cache
def lowered(kind: str, precision: str, target: str = "customcpu", *without: str) -> fx.GraphModule:
    return transform(build(kind), Recipe(precision, attention="fp", without=without), target)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_answers_as_the_model(kind: str, padding: str) -> None:
    given, real = inputs("deberta-v2", padding), mask_of(padding).bool()
    graph = lowered(kind, "fp")
    fused = report_of(graph).fused
    assert (fused["disentangled"], fused["packing"]) == (2, int(kind != "convolution"))
    with torch.no_grad():
        have, want = graph(**given), build(kind)(**given)
    for key, value in have.items():
        assert_sqnr(value[real], want[key][real], 90)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["customcpu", "aie"])
def test_integers_are_those_of_the_unfused_graph(kind: str, target: str) -> None:
    """Distances are projected once, by the same integers."""
    given, real = inputs("deberta-v2", "right"), mask_of("right").bool()
    with torch.no_grad():
        have, want = lowered(kind, "int", target)(**given), lowered(kind, "int", target, "constants")(**given)
    assert report_of(lowered(kind, "int", target, "constants")).fused["disentangled"] == 0
    for key, value in want.items():
        assert_sqnr(have[key][real], value[real], SAME_DB)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("precision", ["int", "bf16", "fp"])
def test_packed_is_padded_at_the_real_tokens(precision: str, padding: str, isa: str) -> None:  # noqa: F811
    """Bit for bit, whatever kernels, and zeros elsewhere."""
    given, real = inputs("deberta-v2", padding), mask_of(padding).bool()
    with torch.no_grad():
        have, want = (lowered("both", precision, "customcpu", *out)(**given) for out in ((), ("packing",)))
    for key, value in want.items():
        assert_equal_bits(have[key][real], value[real])
        assert not have[key][~real].any()


def test_layers_share_their_tables() -> None:
    """Which the model computes in each; the projections of distances are a layer's own."""
    whole = transform(build("both"), Recipe("fp", without=("calls",)), "customcpu")
    attentions = [node for node in whole.graph.nodes if node.op == "call_module" and _is_attention(whole, node)]
    tables = [(node.args[5], node.args[7]) for node in attentions]
    rows = [node.args[place] for node in attentions for place in (4, 6)]
    assert len(tables) == 2 and len(set(tables)) == 1 and len(set(rows)) == 4


def test_all_layers_are_one_call() -> None:
    """What is between the operators costs more than some of them: PyTorch has the product with the mask alone."""
    graph = lowered("v3", "int").graph
    assert [str(node.target) for node in graph.nodes if node.op == "call_module"] == [
        "per_size", "calls_1", "embed", "calls_0",
    ]  # fmt: skip


def _is_attention(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(graph.get_submodule(str(node.target)), DisentangledAttention)


@pytest.mark.parametrize("padding", ["right", "none"])
def test_a_head_that_reads_position_0(padding: str) -> None:
    """Which is real: what padding looks at, here nothing, is nobody's to read."""
    model, given = build("both", DebertaV2ForSequenceClassification), inputs("deberta-v2", padding)
    graph = transform(model, Recipe("fp"), "customcpu")
    assert report_of(graph).fused["packing"] == 1
    with torch.no_grad():
        assert_sqnr(graph(**given).logits, model(**given).logits, 90)


def near(mask: Tensor) -> Tensor:
    """mask [B, S] → of the real tokens those near by, [B, 1, S, S]"""
    places = torch.arange(mask.shape[1])
    return mask[:, None, None] * mask[:, None, :, None] * ((places[:, None] - places).abs() < 3)


def test_any_other_mask_is_left_alone() -> None:
    model, given = copy.deepcopy(build("both")), inputs("deberta-v2", "none")
    model.deberta.encoder.get_attention_mask = near
    graph = transform(model, Recipe("fp"), "customcpu")
    assert report_of(graph).fused["disentangled"] == 0
    missed = {"what": "disentangled", "why": "its mask is not the padding's", "names": ["softmax", "softmax_1"]}
    assert missed in report_of(graph).missed
    with torch.no_grad():
        assert_sqnr(graph(**given).start_logits, model(**given).start_logits, 90)
