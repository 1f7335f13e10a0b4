"""Gaudi without a card: scale rules, the FP8 linear, whole graphs, and what is said of them."""

from itertools import pairwise

import pytest
import torch
from torch import fx, nn

import targets
from operators.e4m3 import CHIPS, decode
from operators.gaudi import MAX_K
from targets.hpu import card
from targets.hpu.linear import Gaudi, GaudiLinear
from targets.hpu.scales import Rule, aligned, scale_of
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from toolkit import NotNative, Recipe, UsageError, report_of, transform
from toolkit.pipeline import lowered

G2, G3 = CHIPS["gaudi2"], CHIPS["gaudi3"]


@pytest.mark.parametrize(
    "chip, maxabs, rounding, backoff, expected",
    [
        (G2, 240.0, "pow2", 1.0, 1.0),
        (G2, 240.1, "pow2", 1.0, 2.0),
        (G2, 3.0, "pow2", 1.0, 2.0**-6),  # 0.0125, rounded up
        (G3, 448.0, "pow2", 1.0, 1.0),
        (G3, 448.0, "pow2", 0.25, 4.0),
        (G2, 60.0, "none", 0.5, 0.5),
        (G2, 240.1, "hw", 1.0, 16.0),
        (G2, 15.0, "hw", 1.0, 2.0**-4),
        (G2, 15.1, "hw", 1.0, 1.0),
        (G2, 0.01, "hw", 1.0, 2.0**-8),  # the least that there is
        (G2, 1e6, "hw", 1.0, 16.0),  # and the largest: what lies above is cut off
        (G3, 7.0, "hw", 1.0, 2.0**-6),
        (G3, 1e6, "hw", 1.0, 2.0**7),
    ],
)
def test_scale_rules(chip, maxabs: float, rounding: str, backoff: float, expected: float) -> None:
    x = torch.tensor([[0.1, -maxabs], [maxabs / 2, 0.0]])
    assert float(scale_of(x, chip, Rule(False, rounding, backoff))) == expected
    assert float(scale_of(x, chip, Rule(True, rounding, backoff))[0, 0]) == expected


def test_hardware_scales_are_those_of_the_exponent_biases() -> None:
    wanted = torch.tensor([2.0**-9, 2.0**-8, 2.0**-7, 0.0625, 0.07, 1.0, 15.9, 16.0])
    assert aligned(wanted, G2).tolist() == [2**-8, 2**-8, 2**-4, 2**-4, 1, 1, 16, 16]


def test_rows_of_zeros_and_rows_that_are_not_finite() -> None:
    x = torch.tensor([[0.0, 0], [1, torch.nan], [torch.inf, 1], [1e-42, 0], [3e38, 1]])
    scale = scale_of(x, G2, Rule(True)).flatten()
    assert scale[0] == 1 and scale[1:3].isnan().all()
    assert scale[3:].isfinite().all() and scale[3:].reciprocal().isfinite().all()
    with pytest.raises(ValueError, match="rounding must be one of"):
        Rule(True, "up")
    with pytest.raises(ValueError, match="backoff"):
        Rule(True, "pow2", 0.0)


@pytest.mark.parametrize("chip", [G2, G3], ids=lambda chip: chip.name)
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_the_product_of_its_rounded_operands(chip, bias: bool) -> None:
    torch.manual_seed(0)
    source = nn.Linear(33, 7, bias=bias)
    x = torch.randn(2, 5, 33) * 3
    linear = GaudiLinear(source, Gaudi(chip))
    weight = decode(linear.weight, chip, dtype=torch.float64) * linear.scale[:, None]
    rounded = scale_of(x, chip, Rule(True))
    rows = decode(torch.ops.opswap.fp8_cast(x, rounded.reciprocal(), chip=chip.name)[0], chip, dtype=torch.float64)
    expected = (rows * rounded) @ weight.t() + (source.bias.double() if bias else 0)
    assert_equal_bits(linear(x), expected.float())
    assert_sqnr(linear(x), source(x), 25)


@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_graphs_in_fp8(name: str) -> None:
    model = tiny.build(name)
    graph = transform(model, Recipe("fp8"), "hpu")
    given = tiny.inputs(model, 3, 17)
    with torch.no_grad():
        expected, found = model(**given).start_logits, graph(**given).start_logits
    mask = given["attention_mask"].bool()
    assert_sqnr(found[mask], expected[mask], 15)
    report = report_of(graph)
    assert report.swapped == sum(isinstance(module, GaudiLinear) for module in graph.modules()) > 0
    why = "the recipe keeps 'qa_outputs'"
    assert report.kept == ({"name": "qa_outputs", "precision": "fp", "why": why},)
    assert report.target["executed"] == "hpu-emulated" and report.target["native"] is False
    assert "emulated on the CPU" in str(report.target["reason"])


def test_bf16_says_where_it_runs() -> None:
    report = report_of(transform(tiny.build("bert"), Recipe("bf16"), "hpu"))
    assert (report.target["executed"], report.target["native"]) == ("cpu", False)
    assert "PyTorch's CPU kernels" in str(report.target["reason"])


def test_int_is_answered_with_what_there_is() -> None:
    with pytest.raises(
        UsageError, match="no matrix product of 8-bit integers; its 8 bits are FP8: give --precision fp8"
    ):
        transform(tiny.build("bert"), Recipe("int"), "hpu")


def test_keep_of_another_pattern_in_fp8() -> None:
    graph = transform(tiny.build("bert"), Recipe("fp8", keep=("*.query",)), "hpu")
    assert {kept["name"].rpartition(".")[2] for kept in report_of(graph).kept} == {"query"}
    with pytest.raises(UsageError, match="matches none"):
        transform(tiny.build("bert"), Recipe("fp8", keep=("nothing",)), "hpu")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_linears_without_fp8_products_are_kept_and_say_why() -> None:
    """The operator takes none of them: the graph failed when it was called."""
    torch.manual_seed(0)
    sizes = (8, MAX_K + 1, 4, MAX_K, 0, 3)
    model = nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(sizes))).eval()
    graph = lowered(fx.symbolic_trace(model), Recipe("fp8", keep=()), "hpu")
    kept = {one["name"]: one["why"] for one in report_of(graph).kept}
    deep = "sums of at most 131072 products are exact; it has 131073"
    assert kept == {"1": deep, "3": "it is empty", "4": "it is empty"} and report_of(graph).swapped == 2
    assert isinstance(graph.get_submodule("2"), GaudiLinear)
    assert_equal_bits(graph(torch.ones(2, 8)), model[-1].bias.detach().expand(2, 3))
    assert_sqnr(graph.get_submodule("2")(torch.ones(2, 4)), model[2](torch.ones(2, 4)).detach(), 15)


def test_the_chip_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    execution = targets.get("hpu").execution
    assert execution("fp8").isa == "E4M3 of gaudi2"
    monkeypatch.setenv(card.FORCED, "Gaudi3")
    assert execution("fp8").isa == "E4M3 of gaudi3"
    monkeypatch.setenv(card.FORCED, "gaudi9")
    with pytest.raises(UsageError, match="OPSWAP_GAUDI must be one of gaudi2, gaudi3; got 'gaudi9'"):
        execution("fp8")


def test_strict_refuses_the_emulation() -> None:
    with pytest.raises(NotNative, match="habana_frameworks is not installed"):
        transform(tiny.build("bert"), Recipe("fp8"), "hpu", strict=True)
