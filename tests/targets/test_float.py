"""customcpu's float precisions: the same answers as PyTorch's own kernels within rounding, and natively."""

import pytest
import torch
from torch import nn

from models import load
from operators import float_kernels, kernels
from operators.floating import GELUS
from targets import customcpu
from targets._float import PackedFloatLinear, fuse_gelu, swap_float
from tests import tiny
from tests.checks import assert_sqnr, sqnr
from toolkit import Recipe, report_of, transform
from toolkit.fuse import NAMES

# Rounding errors of float32 pass through a few layers of random weights: 110 dB and more. bfloat16 rounds to 8 bits
# in other places than PyTorch does, after every linear: 30 dB is what the cpu target itself has against float32.
GATE_DB = {"fp": 105, "bf16": 30}


@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", [*tiny.BUILDERS, tiny.TIED])
def test_equals_pytorch_within_rounding(name, precision):
    model = tiny.build(name)
    graph = transform(model, Recipe(precision, without=NAMES), "customcpu", strict=True)  # linears alone
    stock = transform(model, Recipe(precision), "cpu")
    for size in [(1, 1), (3, 17)]:
        given = tiny.inputs(model, *size)
        real = given["attention_mask"].bool()  # a packed graph has zeros elsewhere
        assert_sqnr(graph(**given)[0][real], stock(**given)[0][real], GATE_DB[precision])
    left = [name for name, module in graph.named_modules() if type(module) is nn.Linear]
    report = report_of(graph)
    packed = [name for name, module in graph.named_modules() if type(module) is PackedFloatLinear]
    assert not left and report.swapped == len(packed)
    assert report.swapped + len(report.kept) == report_of(stock).swapped + len(report_of(stock).kept)
    assert report.target["native"] is True and report.target["isa"] == float_kernels.used()


@pytest.fixture(scope="module")
def story():
    model, tokenizer = load("minilm-squad")
    text = "The bridge over the Tay was opened in 1878 and fell in a storm a year later."
    return model, tokenizer("When did the bridge fall?", text, return_tensors="pt")


def test_a_real_question(story):
    """bfloat16 as close to float32 as PyTorch's bfloat16 is, 3 dB less at the most, and the same answer."""
    model, given = story
    with torch.no_grad():
        want = model(**given)
    logits = torch.cat([want.start_logits, want.end_logits])

    def run(precision, target):
        out = transform(model, Recipe(precision), target)(**given)
        return torch.cat([out.start_logits, out.end_logits])

    assert_sqnr(run("fp", "customcpu"), logits, 100)
    ours, stock = run("bf16", "customcpu"), run("bf16", "cpu")
    assert sqnr(ours, logits) > sqnr(stock, logits) - 3
    assert torch.equal(ours.argmax(1), logits.argmax(1))


def feed_forward(approximate="none"):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 20), nn.Linear(20, 8)

        def forward(self, x):
            return self.down(torch.ops.aten.gelu.default(self.up(x), approximate=approximate))

    return torch.fx.symbolic_trace(Layer().eval())


@pytest.mark.parametrize("approximate", GELUS.values())
def test_gelu_is_fused(approximate):
    kernels.load()
    graph, x = feed_forward(approximate), torch.randn(3, 8)
    with torch.no_grad():
        want = graph(x)
    assert swap_float(graph) == 2 and fuse_gelu(graph) == 1
    graph.recompile()
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.aten.gelu.default)
    assert_sqnr(graph(x), want, 110)


def test_gelu_of_a_layer_that_others_use_is_left():
    graph = feed_forward()
    gelu = next(iter(graph.graph.find_nodes(op="call_function", target=torch.ops.aten.gelu.default)))
    output = graph.graph.output_node()
    output.args = ((output.args[0], gelu.args[0]),)
    swap_float(graph)
    assert fuse_gelu(graph) == 0


def test_layers_kept_in_float_run_on_our_kernels_at_int():
    graph = transform(tiny.build("bert"), Recipe("int", keep=("qa_outputs", "*.output.dense")), "customcpu")
    kinds = {name: type(graph.get_submodule(name)) for name in (entry["name"] for entry in report_of(graph).kept)}
    assert "qa_outputs" in kinds and set(kinds.values()) == {PackedFloatLinear}


KEPT = {"keep": ("*.intermediate.dense", "qa_outputs")}


@pytest.mark.parametrize(
    "target, precision, kept",
    [("customcpu", "fp", {}), ("customcpu", "bf16", {}), ("customcpu", "int", KEPT), ("aie", "int", KEPT)],
    ids=["fp", "bf16", "kept at int", "kept on aie"],
)
def test_gelu_can_be_left_out(target, precision, kept):
    model = tiny.build("bert")
    fused, plain = (transform(model, Recipe(precision, without=w, **kept), target) for w in ((), ("gelu",)))
    for graph, count in ((fused, 2), (plain, 0)):
        floats = [module for module in graph.modules() if type(module) is PackedFloatLinear]
        assert sum(module.activation == "gelu" for module in floats) == count
    given = tiny.inputs(model, 2, 9)
    assert_sqnr(plain(**given)[0], fused(**given)[0], 30)


@pytest.mark.parametrize("precision", GATE_DB)
def test_without_compiled_kernels_pytorch_serves_and_it_says_so(monkeypatch, precision):
    status = kernels.KernelStatus(compiled=False, isa="reference", built=(), reason="no compiler")
    monkeypatch.setattr(kernels, "status", lambda: status)
    execution = customcpu.execution(precision)
    assert (execution.executed, execution.native) == ("cpu", False)
    assert "PyTorch's own kernels, what is fused in the Python reference: no compiler" in str(execution.reason)
    model = tiny.build("bert")
    graph, stock = (transform(model, Recipe(precision), target) for target in ("customcpu", "cpu"))
    report, given = report_of(graph), tiny.inputs(model, 3, 17)
    assert report.swapped == 0 and all("no operator of its own" in entry["why"] for entry in report.kept)
    assert [entry["name"] for entry in report.kept] == [entry["name"] for entry in report_of(stock).kept]
    real = given["attention_mask"].bool()
    assert_sqnr(graph(**given)[0][real], stock(**given)[0][real], GATE_DB[precision])
