"""The whole way, model to target, on every architecture: accuracy, equality between targets, the report."""

import copy

import pytest
import torch

import targets
from tests import tiny
from tests.checks import sqnr
from tests.toolkit import families
from tests.toolkit.transforming import GATE_DB, SCHEMES, model_and_graph, same_bits
from toolkit import Recipe, UsageError, report_of, transform
from toolkit.fuse import NAMES
from toolkit.quantize import QuantizedLinear

EVERY = [*tiny.BUILDERS, tiny.TIED]
INT_TARGETS = ["cpu", "customcpu", "aie"]
SIZES = [(1, 1), (3, 17), (2, 64)]

LINEARS = {"bert": 13, "distilbert": 13, "roberta": 13, "electra": 14, "albert": 8, "gpt2": 9, tiny.TIED: 9}


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


@pytest.mark.parametrize(
    "build, fusion",
    [(lambda: tiny.build("bert"), "layers"), (lambda: families.build("llama"), "attention_rows")],
    ids=["bert", "llama"],
)
def test_what_its_user_exported_is_fused_as_the_model_is(build, fusion):
    """torch.export.export leaves a module that compares sizes, and Llama's no_grad as a graph within the graph."""
    model = build()
    given, other = tiny.inputs(model, 2, 12), tiny.inputs(model, 3, 7)
    free = {key: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for key in given}
    exported = torch.export.export(model, (), given, dynamic_shapes=free).module()
    graph, expected = (transform(one, Recipe("int"), "customcpu") for one in (exported, model))
    assert report_of(graph).fused[fusion] == report_of(expected).fused[fusion] == 2
    assert torch.equal(graph(**other)[0], expected(**other)[0])


def test_what_its_user_exported_in_16_bits_is_refused_at_int():
    model = tiny.build("bert").to(torch.bfloat16)
    exported = torch.export.export(model, (), tiny.inputs(model, 2, 8)).module()
    with pytest.raises(UsageError, match=r"^a graph in float32 was wanted; its .* is bfloat16; export .* in float32$"):
        transform(exported, Recipe("int"))


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
