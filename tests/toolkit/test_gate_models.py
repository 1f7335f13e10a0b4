"""ModernBERT's GeGLU and Llama's SwiGLU as one operator, at every precision, with the same answers."""

import pytest
import torch

from operators import quantize_weight, weight_sum
from targets._calls import Calls
from targets._gate import RowsLinearGate
from targets._linear import Activation, QuantizedLinear
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.families import build
from tests.toolkit.fusing import SAME_DB, fused, mask_of
from tests.toolkit.test_families import inputs, unfused
from toolkit import Recipe, report_of, transform
from toolkit.rotated import counter_rotated

MODELS = ("modernbert", "llama")
COUNTED = ("gate", "gate_rows")


def set_activation(linear: QuantizedLinear, how: Activation) -> None:
    """In place; a weight whose rows whole blocks make up is rotated to match"""
    linear.activation = how
    if how.rotation and linear.in_features % how.rotation == 0:
        weight = counter_rotated(linear.weight * linear.scale[:, None], how.rotation)
        linear.weight, linear.scale = quantize_weight(weight)
        linear.weight_sum = weight_sum(linear.weight)


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_with_quantized_linears_nothing_is_left_between(name: str, how: str) -> None:
    source, given, real = unfused(name), inputs(name, "right"), mask_of("right").bool()
    for module in source.modules():
        if isinstance(module, QuantizedLinear):
            set_activation(module, ACTIVATIONS[how])
    graph, counts = fused(source)
    assert [counts[key] for key in COUNTED] == [2, 2]
    modules = [module for module in graph.modules() if isinstance(module, RowsLinearGate)]
    assert len(modules) == 2 and all(module.activation == ACTIVATIONS[how] for module in modules)
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.aten.silu.default)
    with torch.no_grad():
        have, want = graph(**given), source(**given)
    assert_sqnr(have["start_logits"][real], want["start_logits"][real], SAME_DB)


@pytest.mark.parametrize("left_out, counts", [("gate", [None, 0]), ("gate_rows", [2, None]), ("quantize", [2, 0])])
@pytest.mark.parametrize("target", ["customcpu", "aie"])
@pytest.mark.parametrize("name", MODELS)
def test_one_can_be_left_out(name: str, target: str, left_out: str, counts: list[int | None]) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
    whole, parts = (transform(build(name), Recipe("int", without=out), target) for out in ((), (left_out,)))
    assert [report_of(parts).fused.get(key) for key in COUNTED] == counts
    assert [report_of(whole).fused[key] for key in COUNTED] == [2, 2]
    with torch.no_grad():
        assert_sqnr(whole(**given)["start_logits"][real], parts(**given)["start_logits"][real], 55)


@pytest.mark.parametrize(
    "keep, counts",
    [
        (("*.0.mlp.gate_proj",), [1, 1]),
        (("*.0.mlp.up_proj", "*.0.mlp.gate_proj"), [2, 1]),
        (("*.0.mlp.down*",), [2, 1]),
    ],
    ids=["one of two", "both", "what reads it"],
)
def test_linears_that_stay_in_float(keep: tuple[str, ...], counts: list[int]) -> None:
    given, real = inputs("llama", "right"), mask_of("right").bool()
    have, want = (
        transform(build("llama"), Recipe("int", keep=keep, without=out), "customcpu") for out in ((), ("gate",))
    )
    assert [report_of(have).fused[key] for key in COUNTED] == counts
    assert report_of(have).swapped == report_of(want).swapped
    with torch.no_grad():
        assert_sqnr(have(**given)["start_logits"][real], want(**given)["start_logits"][real], 55)


@pytest.mark.parametrize("precision, db", [("fp", 75), ("bf16", 25)])
@pytest.mark.parametrize("name", MODELS)
def test_with_linears_in_float(name: str, precision: str, db: float) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
    have, want = (transform(build(name), Recipe(precision), target) for target in ("customcpu", "cpu"))
    assert [report_of(have).fused[key] for key in COUNTED] == [2, 0]
    assert report_of(have).swapped == len(report_of(want).kept), "gate and up are one linear in the graph, two here"
    with torch.no_grad():
        assert_sqnr(have(**given)["start_logits"][real].float(), want(**given)["start_logits"][real].float(), db)


@pytest.mark.parametrize("name", MODELS)
def test_weights_alone(name: str) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
    recipes = [Recipe("int", scheme="weight", without=out) for out in ((), ("gate",))]
    have, want = (transform(build(name), recipe, "customcpu") for recipe in recipes)
    assert [report_of(have).fused[key] for key in COUNTED] == [2, 0]
    with torch.no_grad():
        assert_sqnr(have(**given)["start_logits"][real], want(**given)["start_logits"][real], 60)


@pytest.mark.parametrize("precision, operator", [("int", "linear_int8_gate"), ("fp", "gate")])
@pytest.mark.parametrize("name", MODELS)
def test_part_of_one_call(name: str, precision: str, operator: str) -> None:
    graph = transform(build(name), Recipe(precision), "customcpu")
    steps = [step.name for module in graph.modules() if isinstance(module, Calls) for step in module.steps]
    assert steps.count(operator) == 2


@pytest.mark.parametrize("name", MODELS)
def test_exported_with_its_operators(name: str) -> None:
    """A traced graph has the operators, with the same answers."""
    given = inputs(name, "right")
    graph = transform(build(name), Recipe("int"), "customcpu")
    with torch.no_grad():
        whole = torch.export.export(graph, (), given, strict=False).module()
        for key, value in graph(**given).items():
            assert_equal_bits(whole(**given)[key], value)
