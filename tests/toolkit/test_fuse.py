"""The fused graph gives what the unfused one does, for every padding, and with any of the fusions left out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import targets
from targets._fused import FUSED, Layers, RowsLinearAddNorm
from targets._linear import QuantizedLinear
from tests import tiny
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits
from tests.toolkit.fusing import assert_same, fused, inputs, mask_of, model_of, unfused
from toolkit import Recipe, UsageError, capture, report_of, transform
from toolkit.equalize.observe import observe
from toolkit.equalize.smooth import smooth
from toolkit.fuse import AT_LOWERING, FUSIONS
from toolkit.pipeline import PASSES, clean, run
from toolkit.quantize import chosen, quantize

aten = torch.ops.aten
NAMES = [name for name, _ in FUSIONS]
ADDCMUL = aten.addcmul.default
ENCODERS = ["bert", "distilbert", "roberta", "electra", "shared layers", "albert"]
DECODERS = ["gpt2", tiny.TIED]
PADDINGS = ["right", "left", "none", "scattered", "one sequence", "one token", "one token of one"]
TWO_LAYERS = {
    "gelu_steps": 0,
    "norm_steps": 0,
    "attention_steps": 0,
    "thirds": 0,
    "rotation": 0,
    "constants": 0,
    "rotary": 0,
    "attention": 2,
    "heads": 0,
    "biased": 0,
    "cached": 0,
    "disentangled": 0,
    "qkv": 2,
    "gate": 0,
    "rows": 2,
    "packing": 1,
    "quantize": 8,
    "gelu": 2,
    "gate_rows": 0,
    "add_norm": 4,
    "embeddings": 1,
    "lookups": 1,
    "attention_rows": 2,
    "feed_forward": 2,
    "layers": 2,
    "per_size": 0,
}
COUNTS = {
    "bert": TWO_LAYERS,
    "distilbert": TWO_LAYERS,
    "roberta": TWO_LAYERS,
    "electra": {**TWO_LAYERS, "quantize": 9},  # it projects its embeddings
    "albert": {**TWO_LAYERS, "gelu_steps": 2, "quantize": 9, "layers": 0},  # its GELU goes by tanh, its layers are one
    "shared layers": {**TWO_LAYERS, "quantize": 9, "layers": 0},
    "gpt2": {**TWO_LAYERS, "gelu_steps": 2, "qkv": 0},  # one linear as it comes
    tiny.TIED: {**TWO_LAYERS, "gelu_steps": 2, "qkv": 0, "quantize": 9},
    "classifier": TWO_LAYERS,
}


@pytest.mark.parametrize("name", COUNTS)
def test_how_often_each_is_applied(name):
    assert fused(unfused(name))[1] == COUNTS[name]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", ENCODERS + DECODERS)
def test_equals_the_unfused_graph(name, padding):
    graph, _ = fused(unfused(name))
    assert_same(graph, unfused(name), inputs(name, mask_of(padding)), packed=True)


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
@pytest.mark.parametrize("left_out", NAMES)
def test_any_one_can_be_left_out(left_out, name):
    graph, counts = fused(unfused(name), set(NAMES) - {left_out})
    assert counts.keys() == set(NAMES) - {left_out}
    assert_same(graph, unfused(name), inputs(name, mask_of("right")), packed=bool(counts.get("packing")))


@pytest.mark.parametrize("name", ENCODERS[:-2])  # the one norm of ALBERT that can be smoothed takes it in
def test_smoothing_is_part_of_the_norm(name):
    recipe, graph = Recipe("int"), capture(model_of(name))
    run(graph, PASSES)
    names = chosen(graph, recipe)
    assert smooth(graph, observe(graph, [inputs(name, mask_of("none"))], names), recipe)
    quantize(graph, recipe)
    clean(graph)
    whole, counts = fused(graph)
    assert graph.graph.find_nodes(op="call_function", target=ADDCMUL)
    assert not whole.graph.find_nodes(op="call_function", target=ADDCMUL)
    assert counts == COUNTS[name]
    assert_same(whole, graph, inputs(name, mask_of("right")), packed=True)


@pytest.mark.parametrize("how", ACTIVATIONS)
def test_every_way_to_quantize_rows(how):
    source = unfused("bert", how)
    graph, counts = fused(source)
    assert counts == TWO_LAYERS
    assert_same(graph, source, inputs("bert", mask_of("right")), packed=True)


@pytest.mark.parametrize(
    "keep, changed",
    [
        (("qa_outputs", "*.0.attention.self.key"), {"qkv": 1, "quantize": 9}),
        (("qa_outputs", "*.0.intermediate.dense"), {"gelu": 1, "quantize": 7, "feed_forward": 1, "layers": 0}),
        (("qa_outputs", "*.1.output.dense"), {"gelu": 1, "quantize": 7, "feed_forward": 1, "layers": 0}),
        ((), {"quantize": 9}),
    ],
    ids=["key", "intermediate", "output", "none"],
)
def test_linears_that_stay_in_float(keep, changed):
    source = unfused("bert", keep=keep)
    graph, counts = fused(source)
    assert counts == {**TWO_LAYERS, **changed}
    assert_same(graph, source, inputs("bert", mask_of("right")), packed=True)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_more_padding_changes_no_bit(name):
    graph, _ = fused(unfused(name))
    given = inputs(name, mask_of("right"))
    wider = {key: torch.nn.functional.pad(value, (0, 20), value=0) for key, value in given.items()}
    wider["input_ids"][:, 12:] = tiny.PAD
    for short, long in zip(graph(**given).values(), graph(**wider).values(), strict=True):
        assert_equal_bits(long[:, :12], short)
        assert not long[:, 12:].any()


@settings(max_examples=15, deadline=None)
@given(mask=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_any_mask(mask):
    """Sequences without a single token too."""
    graph, _ = fused(unfused("bert"))
    given = inputs("bert", torch.tensor(mask).long())
    assert_same(graph, unfused("bert"), given, packed=True)


@pytest.mark.parametrize("name", ["bert", "classifier"])
def test_nothing_is_computed_for_nobody(name):
    graph, _ = fused(unfused(name))
    unread = [node.name for node in graph.graph.nodes if not node.users and node.op not in ("output", "placeholder")]
    assert not unread
    masks = {aten.scaled_dot_product_attention.default, aten.index.Tensor, aten.__and__.Tensor, aten.unsqueeze.default}
    assert not masks & {node.target for node in graph.graph.nodes}
    modules = {type(graph.get_submodule(node.target)) for node in graph.graph.find_nodes(op="call_module")}
    pooler = {QuantizedLinear} if name == "classifier" else set()  # which reads no rows of tokens
    assert modules <= {*FUSED, torch.nn.Linear} | pooler and Layers in modules


def test_the_last_norm_is_not_quantized():
    graph, _ = fused(unfused("bert"))
    norms = [module.activation is not None for module in graph.modules() if isinstance(module, RowsLinearAddNorm)]
    assert norms == [True, True, True, False]


def test_shared_layers_stay_shared():
    graph, _ = fused(unfused("albert"))
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    shared = {name for name in calls if calls.count(name) == 2}
    assert sum(isinstance(module, QuantizedLinear) for module in graph.modules()) == 5
    assert {name.rpartition(".")[2] for name in shared} == {"qkv", "feed_forward"}


def test_the_target_decides_and_the_report_says_it():
    given = inputs("bert", mask_of("right"))
    graphs = {name: transform(model_of("bert"), Recipe("int"), target=name) for name in ("cpu", "customcpu")}
    plain, packed = (report_of(graphs[name]) for name in graphs)
    assert plain.fused == {} and packed.fused == packed.as_json()["fused"] == {**TWO_LAYERS, "calls": 7}
    assert (plain.swapped, plain.kept) == (packed.swapped, packed.kept)
    assert_same(graphs["customcpu"], graphs["cpu"], given, packed=True, db=42)  # its attention is in bfloat16


@pytest.mark.parametrize("fusion", ["lookups", "embeddings"])
def test_embeddings_that_are_looked_up_one_after_the_other(fusion):
    whole, parts = (transform(model_of("bert"), Recipe("int", without=out), "customcpu") for out in ((), (fusion,)))
    assert_same(parts, whole, inputs("bert", mask_of("right")), packed=True, db=60)


def test_a_target_without_one_leaves_one_out():
    without = ("packing", "gelu")
    report = report_of(transform(model_of("bert"), Recipe("int", without=without), target="customcpu"))
    expected = {**TWO_LAYERS, "feed_forward": 0, "layers": 0, "calls": 14}  # layers take linears with their GELU
    assert report.fused == {name: count for name, count in expected.items() if name not in without}


@pytest.mark.parametrize("name", targets.names())
def test_targets_ask_for_fusions_that_exist(name):
    assert targets.get(name).fusions <= {*NAMES, *AT_LOWERING}


def test_unknown_names():
    with pytest.raises(UsageError, match=r"^unknown fusion 'glue'; choose one of: gelu_steps, norm_steps, attention"):
        Recipe("int", without=("gelu", "glue"))
    with pytest.raises(UsageError, match="without must be a tuple of names; got the string 'gelu'"):
        Recipe("int", without="gelu")  # type: ignore[arg-type]
