"""Whole tiny models on cuda: close to the reference and to float, and honest about what ran."""

import copy

import pytest
import torch
from torch import nn

from models import load
from targets.cuda.attention import CudaAttention
from targets.cuda.linear import HALF, CudaRowsLinear, CudaRowsLinearAddNorm
from targets.cuda.packed import PackedRows
from tests import tiny
from tests.checks import assert_sqnr
from tests.cuda.conftest import INTERPRETED
from toolkit import Recipe, UsageError, report_of, transform
from toolkit.recipe import Rule

# fp: PyTorch's float32. bf16 and fp16 round after every operator. int: floats of 16 bits between kernels turn a level
# here and there against the reference's. fp8 against float: 4 bits of every number are left.
GATE_DB = {"fp": 110, "bf16": 30, "fp16": 50, "int": 40, "fp8": 20}


def wanted(name: str, precision: str):
    """cpu's graph: the reference's integers at int, else float32"""
    return transform(tiny.build(name), Recipe("int" if precision == "int" else "fp"), "cpu")


def close(name: str, precision: str, graph, size=(3, 17), left: bool = False) -> None:
    """left: the padding comes first"""
    given = {key: ids.flip(1) if left else ids for key, ids in tiny.inputs(tiny.build(name), *size).items()}
    real = given["attention_mask"].bool()
    have, want = graph(**given)[0], wanted(name, precision)(**given)[0]
    assert have.device == want.device and have.dtype == torch.float32
    assert_sqnr(have[real], want[real], GATE_DB[precision])


@pytest.mark.parametrize("precision", GATE_DB)
def test_bert(precision):
    graph = transform(tiny.build("bert"), Recipe(precision), "cuda")
    assert isinstance(graph.packed, PackedRows)
    for size in ((1, 1), (3, 17)):
        close("bert", precision, graph, size)
    report = report_of(graph)
    linears = sum(isinstance(module, nn.Linear) for module in tiny.build("bert").modules())
    assert report.swapped + len(report.kept) == linears and report.swapped == (12 if precision in ("int", "fp8") else 0)
    names = {entry["name"] for entry in report.kept}
    assert "qa_outputs" in names and (report.swapped or "bert.encoder.layer.0.attention.self.key" in names)
    assert report.target["native"] is not INTERPRETED
    assert report.target["executed"] == ("cuda-interpreted" if INTERPRETED else "cuda")


@pytest.mark.parametrize("precision", ["int", "fp8"])
@pytest.mark.parametrize("name", ["roberta", "electra", "albert"])
def test_other_architectures(name, precision):
    graph = transform(tiny.build(name), Recipe(precision), "cuda")
    assert isinstance(graph.packed, PackedRows)
    close(name, precision, graph)


@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", ["gpt2", tiny.TIED])
def test_decoders(name, precision):
    graph = transform(tiny.build(name), Recipe(precision), "cuda")
    assert isinstance(graph.packed, PackedRows)
    close(name, precision, graph)
    close(name, precision, graph, left=True)


@pytest.mark.parametrize("precision", ["int", "fp8"])
def test_the_residual_stream_is_never_halved(precision):
    """A number of it that 16 bits cannot hold, as trained models have them, is no fault."""
    model = tiny.build(tiny.TIED)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.bias[3] += 1e5
        model.transformer.h[1].mlp.c_proj.bias[3] -= 1e5
    given = tiny.inputs(model, 3, 17)
    real = given["attention_mask"].bool()
    have = transform(model, Recipe(precision), "cuda")(**given).logits[real]
    want = transform(model, Recipe("int" if precision == "int" else "fp"), "cpu")(**given).logits[real]
    assert_sqnr(have, want, GATE_DB[precision])


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_static_scales_make_rows_in_the_matrix_kernel(name, monkeypatch):
    """and symmetric ones, which have no zero point"""
    from targets.cuda import linear

    made, real = [], linear.int8.linear_int8_levels
    monkeypatch.setattr(linear.int8, "linear_int8_levels", lambda *args, **kw: made.append(1) or real(*args, **kw))
    model = tiny.build(name)
    data = [tiny.inputs(model, 3, 17, seed=seed) for seed in range(2)]
    recipe = Recipe("int", scheme="static", symmetric=True)
    given, graph = data[0], transform(model, recipe, "cuda", data=data)
    real_tokens = given["attention_mask"].bool()
    want = transform(model, recipe, "cpu", data=data)(**given)[0]
    assert_sqnr(graph(**given)[0][real_tokens], want[real_tokens], GATE_DB["int"])
    assert len(made) == 2


def test_floats_between_kernels_are_halves():
    graph = transform(tiny.build("bert"), Recipe("int"), "cuda")
    kinds = {CudaRowsLinear: [], CudaRowsLinearAddNorm: []}
    for module in graph.modules():
        if type(module) in kinds:
            kinds[type(module)].append(module.dtype)
    assert set(kinds[CudaRowsLinear]) == {HALF} and set(kinds[CudaRowsLinearAddNorm]) == {HALF}


@pytest.mark.parametrize("name", ["bert", tiny.TIED])
def test_what_precise_attention_reads_and_gives_is_float32(name):
    graph = transform(tiny.build(name), Recipe("int", attention="fp"), "cuda")
    attentions = [module for module in graph.modules() if isinstance(module, CudaAttention)]
    assert attentions and all(one.inner is None for one in attentions)
    kinds = {type(module): module.dtype for module in graph.modules() if isinstance(module, CudaRowsLinear)}
    assert kinds == {CudaRowsLinear: torch.float32}
    close(name, "int", graph)


@pytest.mark.parametrize("name", ["bert", tiny.TIED])
def test_without_fusions(name):
    recipe = Recipe("int", without=("packing", "add_norm", "gelu", "lookups"))
    graph = transform(tiny.build(name), recipe, "cuda")
    assert not hasattr(graph, "packed")
    close(name, "int", graph)


def test_smoothing_is_part_of_the_norms():
    model = tiny.build("bert")
    data = [tiny.inputs(model, 3, 17, seed=seed) for seed in range(2)]
    graph = transform(model, Recipe("int"), "cuda", data=data)
    assert any(getattr(module, "smooth_scale", None) is not None for module in graph.modules())
    real_tokens = data[0]["attention_mask"].bool()
    want = transform(model, Recipe("int"), "cpu", data=data)(**data[0])[0]
    assert_sqnr(graph(**data[0])[0][real_tokens], want[real_tokens], GATE_DB["int"])


def test_layers_kept_in_float_and_bf16():
    rules = (Rule("*.layer.0.*.dense", "fp"), Rule("*.layer.1.attention.self.*", "bf16"))
    close("bert", "int", transform(tiny.build("bert"), Recipe("int", rules=rules), "cuda"), (2, 9))


def test_a_head_in_float_that_is_the_embedding():
    recipe = Recipe("int", rules=(Rule("lm_head", "fp"),))
    graph = transform(tiny.build(tiny.TIED), recipe, "cuda")
    assert isinstance(graph.packed, PackedRows) and "lm_head" in {entry["name"] for entry in report_of(graph).kept}
    given = tiny.inputs(tiny.build(tiny.TIED), 3, 17)
    real = given["attention_mask"].bool()
    want = transform(tiny.build(tiny.TIED), recipe, "cpu")(**given).logits
    assert_sqnr(graph(**given).logits[real], want[real], GATE_DB["int"])


def test_the_model_and_copies_stay_as_they_are():
    model = tiny.build("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph = transform(model, Recipe("fp16"), "cuda")
    given = tiny.inputs(model, 2, 9)
    want = graph(**given)[0]
    other = copy.deepcopy(graph)
    assert torch.equal(other(**given)[0], want)
    plans = {id(one.plan) for one in other.modules() if isinstance(one, CudaAttention | PackedRows)}
    inner = {id(one.plan) for one in other.packed.held[0].modules() if isinstance(one, CudaAttention)}
    assert plans == inner == {id(other.packed.plan)} and other.packed.plan is not graph.packed.plan
    for name, tensor in model.state_dict().items():
        assert tensor.device == before[name].device and torch.equal(tensor, before[name])


def test_fp8_has_no_static_scales():
    model = tiny.build("bert")
    with pytest.raises(UsageError, match="the scheme static is for the precision int; got fp8"):
        transform(model, Recipe("fp8", scheme="static"), "cuda", data=[tiny.inputs(model, 1, 4)])


def test_a_real_question():
    model, tokenizer = load("minilm-squad")
    text = "The bridge over the Tay was opened in 1878 and fell in a storm a year later."
    given = tokenizer("When did the bridge fall?", text, return_tensors="pt")
    with torch.no_grad():
        want = model(**given)
    have = transform(model, Recipe("int"), "cuda")(**given)
    assert int(have.start_logits.argmax()) == int(want.start_logits.argmax())
    assert int(have.end_logits.argmax()) == int(want.end_logits.argmax())
