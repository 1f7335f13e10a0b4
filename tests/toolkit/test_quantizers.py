"""Q/DQ graphs that torchao and Neural Compressor make here, lowered: the same numbers as where they come from."""

import importlib.metadata
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import fx, nn

from benchmarks.own_runtime import COMPILED, ITSELF, REVERSED, equal_answers, in_bytes, sums_reversed
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit import families
from toolkit import Recipe, UsageError, report_of, transform
from toolkit.cache import past_of, with_cache
from toolkit.capture import capture
from toolkit.pipeline import CLEANING, made_elsewhere, quantized, run
from toolkit.quantizers import How, quantize_with
from toolkit.report import KEY as OPSWAP
from toolkit.rotated import ROTATED, counter_rotated

pytest.importorskip("torchao", reason="make test runs this file by itself, with requirements-quantizers.txt")

KINDS = [(name, scheme) for name in ("torchao", "inc") for scheme in ("static", "dynamic")]
SAME_DB = 100.0  # floats against integers that are scaled once; a level that turns, 1/255 of a range, leaves 40 dB


def batches() -> list[dict[str, torch.Tensor]]:
    model = tiny.build("bert")
    return [tiny.inputs(model, 3, 17, seed=seed) for seed in range(3)]


@cache
def own(name: str, scheme: str) -> fx.GraphModule:
    """→ the Q/DQ graph itself"""
    graph = capture(tiny.build("bert"))
    run(graph, CLEANING)
    return quantize_with(name, graph, How(scheme == "dynamic", ("qa_outputs",)), batches())


@cache
def read(name: str, scheme: str, target: str) -> fx.GraphModule:
    return transform(own(name, scheme), Recipe("int"), target)


@pytest.mark.parametrize("name, scheme", KINDS)
def test_every_target_gives_the_numbers_of_the_graph_itself(name: str, scheme: str) -> None:
    given = tiny.inputs(tiny.build("bert"), 3, 17, seed=9)
    real = given["attention_mask"].bool()
    want = own(name, scheme)(**given)[0][real]
    have = {target: read(name, scheme, target)(**given)[0][real] for target in ("cpu", "customcpu", "aie")}
    assert_sqnr(have["cpu"], want, SAME_DB)
    assert_sqnr(have["customcpu"], want, SAME_DB)
    assert_equal_bits(have["aie"], have["customcpu"])
    for target in have:
        report = report_of(read(name, scheme, target))
        assert report.swapped == 12 and not report.fused.get("gelu"), "the fused one is an approximation"
        assert report.kept == ({"name": "qa_outputs", "precision": "fp", "why": "its quantizer left it in float"},)


@pytest.mark.parametrize("name, scheme", KINDS)
def test_a_graph_with_a_cache_is_quantized_alike(name: str, scheme: str) -> None:
    """Each call gets its tokens' own range where it is dynamic, one for all of them."""
    model, recipe = tiny.build(tiny.TIED), Recipe("int", scheme=scheme, quantizer=name)
    data = [tiny.inputs(model, 3, 17)] if scheme == "static" else None
    plain, cached = (transform(one, recipe, "customcpu", data=data) for one in (model, with_cache(model)))
    alike, wanted = (replace(report_of(one), fused={}, missed=()) for one in (cached, plain))  # a cache has no padding
    assert alike == wanted
    assert report_of(cached).swapped == 9 and report_of(cached).fused["cached"] == 2
    given = tiny.inputs(model, 1, 9)
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    made = cached(input_ids=ids[:, :-1], attention_mask=mask[:, :-1])
    past = dict(zip(past_of(cached), made.past_key_values, strict=True))
    have = cached(input_ids=ids[:, -1:], attention_mask=mask, **past).logits[:, -1]
    assert_sqnr(have, plain(input_ids=ids, attention_mask=mask).logits[:, -1], 30.0)


@pytest.mark.parametrize("name, package", [("torchao", "torchao"), ("inc", "neural-compressor-pt")])
def test_transform_has_the_quantizer_make_the_graph(name: str, package: str) -> None:
    graph = transform(tiny.build("bert"), Recipe("int", scheme="static", quantizer=name), data=batches())
    report = report_of(graph)
    assert report.quantizer == f"{package} {importlib.metadata.version(package)}" and report.swapped == 12
    assert report.kept == ({"name": "qa_outputs", "precision": "fp", "why": "the recipe keeps 'qa_outputs'"},)
    given = tiny.inputs(tiny.build("bert"), 2, 11, seed=9)
    assert_sqnr(graph(**given)[0], read(name, "static", "cpu")(**given)[0], SAME_DB)


@pytest.mark.parametrize("name, scheme", KINDS)
def test_rotated_rows_are_rounded_there_and_here(name: str, scheme: str) -> None:
    """The graph itself rotates them, and its integers are those of rotated weights; what is 52 wide is not rotated."""
    model, given = tiny.build("bert"), tiny.inputs(tiny.build("bert"), 3, 17, seed=9)
    recipe, data = Recipe("int", scheme=scheme, quantizer=name, rotate=True), batches() if scheme == "static" else None
    itself = made_elsewhere(model, recipe, data)
    assert len(itself.graph.find_nodes(op="call_function", target=ROTATED)) == 6
    real = given["attention_mask"].bool()
    for target in ("cpu", "customcpu", "aie"):
        graph = transform(model, recipe, target, data=data)
        assert_sqnr(graph(**given)[0][real], itself(**given)[0][real], SAME_DB)
        report = report_of(graph)
        assert report.swapped == 12 and report.equalized == {"rotate": 10}
        assert report.kept == ({"name": "qa_outputs", "precision": "fp", "why": "the recipe keeps 'qa_outputs'"},)
        assert report.fused.get("rotation", 0) == 10 * (scheme == "static" and target != "cpu")


def test_rotated_weights_are_the_integers() -> None:
    model = tiny.build("bert")
    graph = quantized(model, Recipe("int", scheme="static", quantizer="torchao", rotate=True), batches())
    name = "bert.encoder.layer.0.attention.self.query"
    turned = counter_rotated(model.get_submodule(name).weight.detach(), 32)
    made = graph.get_submodule(name)
    assert_sqnr(made.weight * made.scale[:, None], turned, 40)


@pytest.mark.parametrize("rotate", [False, True], ids=["as it is", "rotated, what a linear gives too"])
def test_a_layer_with_many_calls_is_read_at_each(rotate: bool) -> None:
    model = tiny.build("albert")
    graph = transform(model, Recipe("int", scheme="static", quantizer="torchao", rotate=rotate), data=batches())
    given = tiny.inputs(model, 3, 17, seed=9)
    assert_sqnr(graph(**given)[0], model(**given)[0], 25)
    assert report_of(graph).swapped == 13  # six linears, each of two layers with ranges of its own, and the first


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_autotune_takes_the_best_by_our_accuracy(scheme: str) -> None:
    seen: list[fx.GraphModule] = []

    def accuracy(graph: fx.GraphModule) -> float:
        seen.append(graph)
        assert graph(**batches()[0])[0].shape == (3, 17)
        return 100.0 if len(seen) == 1 else 50.0 + 10 * (len(seen) == 3)  # float, then the second choice is the best

    recipe = Recipe("int", scheme=scheme, quantizer="inc")
    graph = transform(tiny.build("bert"), recipe, data=batches(), accuracy=accuracy)
    assert len(seen) == 1 + (4 if scheme == "static" else 2) and report_of(graph).swapped == 12
    given = tiny.inputs(tiny.build("bert"), 3, 17, seed=9)
    assert_sqnr(graph(**given)[0], seen[2](**given)[0], SAME_DB)


def never(graph: fx.GraphModule) -> float:
    raise AssertionError("nothing is to be judged here")


@pytest.mark.parametrize(
    "recipe, arguments, line",
    [
        (Recipe("int", scheme="static", quantizer="torchao"), {}, "wants data to calibrate with"),
        (Recipe("int", scheme="static", quantizer="inc"), {"data": []}, "data is empty"),
        (Recipe("int", quantizer="torchao"), {"accuracy": never}, "only inc has"),
        (Recipe("int"), {"accuracy": never}, "choose the quantizer inc"),
        (Recipe("fp", quantizer="inc"), {}, "at precision int"),
    ],
    ids=["no data", "empty data", "torchao and accuracy", "native and accuracy", "float"],
)
def test_what_a_quantizer_cannot_do_is_said(recipe: Recipe, arguments: dict, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        transform(tiny.build("bert"), recipe, **arguments)


def test_what_a_package_stumbles_over_is_one_line() -> None:
    """torchao observes DeBERTa's distances, whole numbers, as if they were activations."""
    with pytest.raises(UsageError, match="quantizer torchao cannot quantize this model: .*Long.*; take the native one"):
        transform(families.build("deberta-v2"), Recipe("int", scheme="static", quantizer="torchao"), data=batches())


def test_a_graph_without_input_ids_is_refused() -> None:
    with pytest.raises(UsageError, match="input_ids was wanted"):
        transform(fx.symbolic_trace(nn.Linear(2, 2)), Recipe("int"))


def test_answers_are_compared_with_those_of_the_graph_itself() -> None:
    """benchmarks.own_runtime; one of the answers is made to differ on one target."""
    given = tiny.inputs(tiny.build("bert"), 3, 17, seed=9)

    def answer(graph: Any) -> dict[str, str]:
        starts = graph(**given)[0].argmax(1).tolist()
        asked = graph.meta if isinstance(graph, fx.GraphModule) else {}
        odd = OPSWAP in asked and report_of(graph).target["requested"] == "aie"
        return {str(row): "other" if odd and row == 0 else str(start) for row, start in enumerate(starts)}

    others = {"cpu": 3, "customcpu": 3, "aie": 2}
    found = equal_answers(own("torchao", "static"), answer, compiled=True)
    assert found == {ITSELF: {REVERSED: 3, COMPILED: 3, **others}, COMPILED: {ITSELF: 3, REVERSED: 3, **others}}
    assert in_bytes()


@pytest.mark.parametrize("name, scheme", KINDS)
def test_sums_in_reverse_are_other_floats_of_the_same_numbers(name: str, scheme: str) -> None:
    given = tiny.inputs(tiny.build("bert"), 3, 17, seed=9)
    graph, before = own(name, scheme), list(own(name, scheme).graph.nodes)
    want, have = graph(**given)[0], sums_reversed(graph)(**given)[0]
    assert not torch.equal(have, want) and list(graph.graph.nodes) == before
    assert_sqnr(have, want, SAME_DB)


def test_a_keep_that_a_tied_head_does_not_follow_is_refused() -> None:
    model = tiny.build(tiny.TIED)
    graph = capture(model)
    run(graph, CLEANING)
    made = quantize_with("torchao", graph, How(False, ()), [tiny.inputs(model, 3, 17)])
    with pytest.raises(UsageError, match="in int; the recipe keeps 'lm_head', in fp; leave that out"):
        transform(made, Recipe("int", keep=("lm_head",)))
