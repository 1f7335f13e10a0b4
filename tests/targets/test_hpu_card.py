"""The session of a Gaudi card against a stand-in SDK: nothing here has run on a real one.

The stand-in's device is the CPU, and its two operators are served by our emulation.
"""

import copy
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import targets
from targets.hpu import card
from targets.hpu.linear import Card, GaudiLinear
from tests import tiny
from tests.checks import assert_equal_bits
from toolkit import Recipe, report_of, transform

CAST = "(Tensor input, Tensor? scale, bool stochastic, bool is_amax, ScalarType dtype) -> (Tensor, Tensor)"
GEMM = (
    "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, Tensor? A_scale_inv, "
    "Tensor? B_scale_inv, Tensor? bias, bool accumulate) -> Tensor"
)


class Sdk:
    """What the SDK was asked to do, in order"""

    def __init__(self, name: str, there: bool) -> None:
        self.name, self.there, self.asked = name, there, []  # type: ignore[var-annotated]

    def modules(self) -> dict[str, ModuleType]:
        hpu, core = ModuleType("habana_frameworks.torch.hpu"), ModuleType("habana_frameworks.torch.core")
        hpu.is_available = lambda: self.there  # type: ignore[attr-defined]
        hpu.get_device_name = lambda: self.name  # type: ignore[attr-defined]
        hpu.wrap_in_hpu_graph = self.note("record")  # type: ignore[attr-defined]
        core.mark_step = lambda: self.asked.append("step")  # type: ignore[attr-defined]
        parents = {name: ModuleType(name) for name in ("habana_frameworks", "habana_frameworks.torch")}
        for parent in parents.values():
            parent.__path__ = []  # type: ignore[attr-defined]
        parents["habana_frameworks"].__spec__ = sys.__spec__  # what find_spec looks for
        return {**parents, hpu.__name__: hpu, core.__name__: core}

    def note(self, what: str) -> Any:
        def done(graph: Any, **settings: Any) -> Any:
            self.asked.append(f"{what} {settings.get('backend', '')}".strip())

            def run(**given: Any) -> Any:
                self.asked.append("autocast" if torch.is_autocast_enabled("cpu") else "run")
                return graph(**given)

            return run

        return done


def put(monkeypatch: pytest.MonkeyPatch, name: str = "GAUDI3", there: bool = True) -> Sdk:
    sdk = Sdk(name, there)
    for key, module in sdk.modules().items():
        monkeypatch.setitem(sys.modules, key, module)
    monkeypatch.setattr(torch, "compile", sdk.note("compile"))
    monkeypatch.setattr(card, "DEVICE", "cpu")
    return sdk


@pytest.fixture
def operators() -> Iterator[None]:
    """torch.ops.hpu as on a card whose FP8 is Gaudi3's, which is PyTorch's own"""
    library = torch.library.Library("hpu", "DEF")
    library.define(f"cast_to_fp8_v2{CAST}")
    library.define(f"fp8_gemm_v2{GEMM}")

    def cast(x: Any, scale: Any, stochastic: bool, is_amax: bool, dtype: torch.dtype) -> Any:
        codes, largest = torch.ops.opswap.fp8_cast(x, scale, stochastic, is_amax, dtype, "gaudi3")
        return codes.view(dtype), largest

    def gemm(a: Any, trans_a: bool, b: Any, trans_b: bool, *rest: Any) -> Any:
        codes = a.view(torch.uint8), b.view(torch.uint8)
        return torch.ops.opswap.fp8_gemm(codes[0], trans_a, codes[1], trans_b, *rest, chip="gaudi3")

    library.impl("cast_to_fp8_v2", cast, "CPU")
    library.impl("fp8_gemm_v2", gemm, "CPU")
    yield
    library._destroy()


@pytest.mark.parametrize(
    "precision, lazy, asked",
    [
        ("fp", False, ["compile hpu_backend", "run"]),
        ("bf16", False, ["compile hpu_backend", "autocast"]),
        ("fp", True, ["record", "run", "step"]),
        ("bf16", True, ["record", "autocast", "step"]),
    ],
)
def test_float_graphs_go_to_the_card(
    monkeypatch: pytest.MonkeyPatch, precision: str, lazy: bool, asked: list[str]
) -> None:
    sdk = put(monkeypatch)
    monkeypatch.setenv("PT_HPU_LAZY_MODE", str(int(lazy)))
    model = tiny.build("bert")
    graph = transform(model, Recipe(precision), "hpu", strict=True)
    given = tiny.inputs(model, 2, 9)
    found = graph(**given)
    assert sdk.asked == asked
    report = report_of(graph)
    assert (report.target["executed"], report.target["native"], report.target["device"]) == ("hpu", True, "GAUDI3")
    assert report.target["isa"] == ("HPU graphs" if lazy else "hpu_backend") and report.target["reason"] is None
    if precision == "fp":
        assert_equal_bits(found.start_logits, transform(model)(**given).start_logits)


def test_a_copy_is_compiled_and_runs_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk, model = put(monkeypatch), tiny.build("bert")
    graph, given = transform(model, Recipe("fp"), "hpu"), tiny.inputs(model, 2, 9)
    assert_equal_bits(copy.deepcopy(graph)(**given).start_logits, graph(**given).start_logits)
    assert sdk.asked == ["compile hpu_backend"] * 2 + ["run"] * 2


def test_fp8_by_the_cards_operators_is_what_the_emulation_says(
    monkeypatch: pytest.MonkeyPatch, operators: None
) -> None:
    model = tiny.build("bert")
    given = tiny.inputs(model, 2, 9)
    monkeypatch.setenv(card.FORCED, "gaudi3")
    emulated = transform(model, Recipe("fp8"), "hpu")
    put(monkeypatch)
    graph = transform(model, Recipe("fp8"), "hpu", strict=True)
    linears = [module for module in graph.modules() if isinstance(module, GaudiLinear)]
    assert len(linears) == report_of(graph).swapped
    for linear in linears:
        assert type(linear.gaudi) is Card and linear.weight.dtype is torch.float8_e4m3fn
    assert report_of(graph).swapped == report_of(emulated).swapped
    assert_equal_bits(graph(**given).start_logits, emulated(**given).start_logits)


@pytest.mark.parametrize("name, chip", [("GAUDI2", "gaudi2"), ("GAUDI2D", "gaudi2"), ("GAUDI3", "gaudi3")])
def test_the_card_names_its_chip(monkeypatch: pytest.MonkeyPatch, name: str, chip: str) -> None:
    put(monkeypatch, name)
    found = card.find()
    assert found is not None and (found.name, found.chip, found.lazy) == (name, chip, False)


def test_an_sdk_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, there=False)
    assert card.find() is None
    execution = targets.get("hpu").execution("fp8")
    assert not execution.native and "finds no card" in str(execution.reason)


def test_an_sdk_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch)
    monkeypatch.setitem(sys.modules, "habana_frameworks.torch.core", None)
    assert "habana_frameworks cannot be loaded" in card.missing()[0]
