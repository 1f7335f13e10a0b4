"""The whole way, model to target, on every architecture: accuracy, equality between targets, the report."""

import copy
from functools import cache

import pytest
import torch

import targets
from operators.feed_forward import unpack_layer
from targets._layers import PackedLayers
from targets._packed import PackedEmbedNorm
from tests import tiny
from tests.checks import sqnr
from toolkit import Recipe, report_of, transform
from toolkit.fuse import NAMES
from toolkit.quantize import QuantizedLinear

EVERY = [*tiny.BUILDERS, tiny.TIED]
INT_TARGETS = ["cpu", "customcpu", "aie"]
SIZES = [(1, 1), (3, 17), (2, 64)]
GATE_DB = 35.0  # int8 against float on these random models gives 38 to 50 dB
LINEARS = {"bert": 13, "distilbert": 13, "roberta": 13, "electra": 14, "albert": 8, "gpt2": 9, tiny.TIED: 9}


SCHEMES = {  # options of the recipe
    "dynamic": {},
    "dynamic symmetric": {"symmetric": True},
    "static": {"scheme": "static"},
    "static symmetric": {"scheme": "static", "symmetric": True, "ranges": "mse"},
}


@cache
def model_and_graph(name, target, **options):
    """→ a model, and its int graph for the target, static ones calibrated: for tests that change neither"""
    model = tiny.build(name)
    data = [tiny.inputs(model, 4, 30, seed) for seed in (5, 6)]
    return model, transform(model, Recipe("int", **options), target=target, data=data)


@pytest.fixture(scope="module", params=EVERY)
def lowered(request):
    graphs = {target: model_and_graph(request.param, target)[1] for target in INT_TARGETS}
    return request.param, tiny.build(request.param), graphs


def test_int_stays_close_to_float(lowered):
    _, model, graphs = lowered
    calls = [tiny.inputs(model, *size) for size in SIZES]
    with torch.no_grad():
        expected = torch.cat([model(**call)[0].flatten() for call in calls])
    got = torch.cat([graphs["cpu"](**call)[0].flatten() for call in calls])
    assert sqnr(got, expected) >= GATE_DB


DYNAMIC_ONES = [(name, "dynamic") for name in EVERY]
OTHERS = [(name, scheme) for name in ("bert", "gpt2") for scheme in SCHEMES if scheme != "dynamic"]


@pytest.mark.parametrize("name, scheme", DYNAMIC_ONES + OTHERS)
def test_every_target_gives_the_same_bits(name, scheme):
    """Without fusions and float linears, which add floats up in another order: test_fuse.py, test_float.py"""
    options = {"without": NAMES, "keep": (), **SCHEMES[scheme]}
    graphs = {target: model_and_graph(name, target, **options)[1] for target in INT_TARGETS}
    for size in SIZES:
        same_bits(graphs, tiny.inputs(tiny.build(name), *size))


def same_bits(graphs, given):
    results = {target: graph(**given) for target, graph in graphs.items()}
    first = next(iter(results.values()))
    for target, result in results.items():
        assert type(result) is type(first)
        for name, value in first.items():
            assert torch.equal(result[name], value), (target, name)


def test_every_linear_is_swapped_or_kept(lowered):
    name, _, graphs = lowered
    for target, graph in graphs.items():
        report = report_of(graph)
        floats = [] if name == tiny.TIED else ["qa_outputs"]
        assert report.swapped == LINEARS[name] - len(floats), target
        assert [entry["name"] for entry in report.kept] == floats, target


def test_a_copy_and_its_state(lowered):
    _, model, graphs = lowered
    given = tiny.inputs(model, 2, 9)
    for graph in graphs.values():
        twin = copy.deepcopy(graph)
        expected = graph(**given)[0]
        assert report_of(twin) == report_of(graph)
        assert torch.equal(twin(**given)[0], expected)
        for value in twin.state_dict().values():
            value.zero_()
        assert torch.equal(graph(**given)[0], expected)
        twin.load_state_dict(graph.state_dict())
        assert torch.equal(twin(**given)[0], expected)


@pytest.mark.parametrize("target", INT_TARGETS)
@pytest.mark.parametrize("name", ["bert", tiny.TIED])
def test_a_lowered_graph_can_be_exported_again(name, target):
    model, graph = model_and_graph(name, target)
    given, other = tiny.inputs(model, 2, 12), tiny.inputs(model, 3, 7)
    free = {key: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for key in given}
    again = torch.export.export(graph, (), given, dynamic_shapes=free).module(check_guards=False)
    assert torch.equal(again(**other)[0], graph(**other)[0])


STATIC_DB = {"static": 25.0, "static symmetric": 25.0}  # two batches are few: values of others lie outside


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_stays_close_to_float(scheme):
    model, graph = model_and_graph("bert", "customcpu", **SCHEMES[scheme])
    given = tiny.inputs(model, 3, 17)
    with torch.no_grad():
        expected = model(**given)[0]
    real = given["attention_mask"].bool()  # at padding the packed graph gives zeros
    assert sqnr(graph(**given)[0][real], expected[real]) >= STATIC_DB.get(scheme, GATE_DB)


def fixed_scales(graph):
    """→ of all rows of bytes that a lowered graph of two layers makes, 0 where each row has its own"""
    embed = next(module for module in graph.modules() if isinstance(module, PackedEmbedNorm))
    layers = next(module for module in graph.modules() if isinstance(module, PackedLayers))
    first, last = (unpack_layer("it", part.layer) for part in layers.parts)
    made = [layer[place] for layer in (first, last) for place in (8, 18)]  # of the first norm, and of GELU
    return [embed.levels[1], *layers.how[3], *made, first[30]]  # and of the norm that ends the first


def test_static_graphs_are_fused_as_dynamic_ones_are():
    graphs = {name: model_and_graph("bert", "customcpu", **options)[1] for name, options in SCHEMES.items()}
    fused = {name: report_of(graph).fused for name, graph in graphs.items()}
    assert all(counts == fused["dynamic"] for counts in fused.values())
    for name, graph in graphs.items():
        scales = fixed_scales(graph)
        assert len(scales) == 8 and all((scale == 0) == ("dynamic" in name) for scale in scales)


def test_fused_static_graphs_of_customcpu_and_aie_are_equal():
    options = SCHEMES["static"]
    same_bits({name: model_and_graph("bert", name, **options)[1] for name in ("customcpu", "aie")},
              tiny.inputs(tiny.build("bert"), 3, 17))  # fmt: skip


def test_fp_is_exact_and_counts_every_linear():
    model = tiny.build("albert")
    given = tiny.inputs(model, 2, 10)
    graph = transform(model)
    with torch.no_grad():
        assert torch.equal(graph(**given)[0], model(**given)[0])
    report = report_of(graph)
    assert report.swapped == 0 and len(report.kept) == LINEARS["albert"]
    assert report.target["executed"] == "cpu" and report.target["native"] is True


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_bf16_returns_float32(name):
    model = tiny.build(name)
    given = tiny.inputs(model, 3, 17)
    with torch.no_grad():
        expected = model(**given)
    result = transform(model, Recipe("bf16"))(**given)
    assert {value.dtype for value in result.values()} == {torch.float32}
    assert sqnr(result[0], expected[0]) >= 30
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_tied_embedding_is_intact():
    model = tiny.build(tiny.TIED)
    before = model.transformer.wte.weight.clone()
    graph = transform(model, Recipe("int", keep=()))
    assert report_of(graph).kept == () and report_of(graph).swapped == LINEARS[tiny.TIED]
    assert torch.equal(model.transformer.wte.weight, before)
    tables = [
        value for value in graph.state_dict().values() if value.shape == before.shape and value.dtype.is_floating_point
    ]
    assert tables and all(torch.equal(table, before) for table in tables)


def test_shared_layers_are_swapped_once_and_called_often():
    graph = model_and_graph("albert", "customcpu", without=NAMES)[1]
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert len(set(calls)) == LINEARS["albert"] and len(calls) == 2 + 2 * 6


def test_a_target_must_not_leave_anything_behind(monkeypatch):
    forgetful = targets.Target("cpu", ("int",), lambda graph, recipe: None, targets.get("cpu").execution)
    monkeypatch.setattr("targets.cpu.TARGET", forgetful)
    with pytest.raises(RuntimeError, match="it left bert"):
        transform(tiny.build("bert"), Recipe("int"))


def test_the_quantized_graph_runs_before_it_is_lowered(monkeypatch):
    """QuantizedLinear, the reference, gives the same bits as what replaces it."""
    model, given = tiny.build("bert"), None
    given = tiny.inputs(model, 3, 17)
    seen = []

    def look(graph: torch.fx.GraphModule) -> int:
        seen.append(sum(type(module) is QuantizedLinear for module in graph.modules()))
        seen.append(graph(**given)[0])
        return 0

    cpu = targets.get("cpu")
    watching = targets.Target("cpu", cpu.precisions, cpu.lower, cpu.execution, passes=(look,))
    monkeypatch.setattr("targets.cpu.TARGET", watching)
    result = transform(model, Recipe("int"))(**given)[0]
    assert seen[0] == LINEARS["bert"] - 1 and torch.equal(seen[1], result)
