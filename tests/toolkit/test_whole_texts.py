"""A graph with a cache saved and loaded, and made the graph of whole texts that files and sessions take."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from tests import tiny
from tests.checks import assert_equal_bits
from tests.toolkit.test_cache import bloom, by_cache, language_model, llama, mistral
from toolkit import Recipe, checkpoint, report_of, transform
from toolkit.cache import CacheError, past_of, with_cache
from toolkit.checkpoint.shapes import Values
from toolkit.export import ExportError, onnx_file, pt2
from toolkit.inputs import KEY
from toolkit.onnx_session import open_session
from toolkit.pipeline import quantized
from toolkit.report import Report
from toolkit.whole_texts import drop_cache

RECIPES = {"dynamic": Recipe("int"), "weight": Recipe("int", scheme="weight")}
MODELS = {"gpt2": language_model, "llama": llama, "mistral": mistral, "bloom": bloom}


def build(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[name]().eval()


def saved(model: nn.Module, recipe: Recipe, place: Path) -> fx.GraphModule:
    checkpoint.save(quantized(with_cache(model), recipe), model, recipe, place)
    return checkpoint.load(place)


def alike(report: Report) -> Report:
    """Positions that are counted in the mask are no length's, and neither are their cos and sin"""
    return replace(report, fused={name: count for name, count in report.fused.items() if name != "per_size"})


@pytest.mark.parametrize("scheme", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_graph_keeps_its_cache_to_the_bit(name: str, scheme: str, tmp_path: Path) -> None:
    model, recipe = build(name), RECIPES[scheme]
    loaded = saved(model, recipe, tmp_path / "saved")
    assert loaded.meta[KEY] == quantized(with_cache(model), recipe).meta[KEY] and len(past_of(loaded)) == 4
    for target in ("cpu", "customcpu"):
        direct, again = transform(with_cache(model), recipe, target), transform(loaded, target=target)
        assert report_of(again) == report_of(direct) and again.code == direct.code
        for have, want in zip(by_cache(again), by_cache(direct), strict=True):
            assert_equal_bits(have, want, target)


@pytest.mark.parametrize("name", MODELS)
def test_without_its_cache_it_is_the_graph_of_whole_texts(name: str, tmp_path: Path) -> None:
    model, recipe = build(name), RECIPES["dynamic"]
    loaded, plain = saved(model, recipe, tmp_path / "saved"), quantized(model, recipe)
    assert drop_cache(loaded) == 5 and drop_cache(loaded) == 0
    assert loaded.meta[KEY] == plain.meta[KEY] and past_of(loaded) == ()
    batch = tiny.inputs(model, 3, 17)
    real = batch["attention_mask"].bool()
    for target in ("cpu", "customcpu", "aie"):
        have, want = transform(loaded, target=target), transform(model, recipe, target)
        assert alike(report_of(have)) == alike(report_of(want))
        found, wanted = have(**batch), want(**batch)
        assert type(found) is type(wanted) and list(found) == list(wanted) == ["logits"]
        assert_equal_bits(found.logits[real], wanted.logits[real], target)


def test_a_cache_of_many_layers_has_many_sizes() -> None:
    """Each of its tensors has one that the capture took for free: their product is no size of a tensor."""
    values = Values({f"s{number}": 5 for number in range(60)})
    sizes = [values.size(f"s{number}") for number in range(60)]
    assert len({str(size) for size in sizes}) == 60


def test_a_folder_of_others_is_written_with_a_cache_too(tmp_path: Path) -> None:
    """What only the cache is computed with is no weight: transformers reads the folder as before."""
    recipe = Recipe("int", smooth=False)
    found = checkpoint.save(quantized(with_cache(llama()), recipe), llama(), recipe, tmp_path / "saved")
    assert found.portable is None


@pytest.mark.parametrize("scheme", RECIPES)
def test_files_are_of_whole_texts(scheme: str, tmp_path: Path) -> None:
    model, recipe = language_model(), RECIPES[scheme]
    graph = saved(model, recipe, tmp_path / "saved")
    with pytest.raises(ExportError, match="a file takes whole texts; GPT2LMHeadModel's graph has a cache: leave that"):
        pt2.write(checkpoint.copied(graph), tmp_path / "cached.pt2", {})
    drop_cache(graph)
    batch = tiny.inputs(model, 2, 9)
    real = batch["attention_mask"].bool()
    want = transform(model, recipe)(**batch).logits[real]
    pt2.write(checkpoint.copied(graph), tmp_path / "model.pt2", {})
    onnx_file.write(checkpoint.copied(graph), tmp_path / "model.onnx", {})
    for read in (pt2.read(tmp_path / "model.pt2"), open_session(tmp_path / "model.onnx")):
        call: Callable[..., object] = read
        found = call(**batch)
        assert float((found.logits[real] - want).abs().max()) < 0.02 * float(want.abs().max())  # type: ignore[attr-defined]


def test_a_graph_that_needs_its_cache_is_refused() -> None:
    graph = quantized(with_cache(language_model()), Recipe("int"))
    past = next(node for node in graph.graph.nodes if node.target == "past_key_0")
    output = graph.graph.output_node()
    with graph.graph.inserting_before(output):
        odd = graph.graph.call_function(torch.ops.aten.neg.default, (past,))
    output.args = ((odd, *output.args[0][1:]),)  # type: ignore[index]
    with pytest.raises(CacheError, match="GPT2LMHeadModel can't do without its cache: aten.neg.default reads past_key"):
        drop_cache(graph)


def test_a_folder_of_an_earlier_version_has_no_cache(tmp_path: Path) -> None:
    model, place = language_model(), tmp_path / "saved"
    checkpoint.save(quantized(model, Recipe("int")), model, Recipe("int"), place)
    document = json.loads((place / "opswap.json").read_text("utf-8"))
    document["version"] = 1
    del document["inputs"]["past"]
    (place / "opswap.json").write_text(json.dumps(document), "utf-8")
    loaded, batch = checkpoint.load(place), tiny.inputs(model, 2, 9)
    assert past_of(loaded) == ()
    assert_equal_bits(transform(loaded)(**batch).logits, transform(model, Recipe("int"))(**batch).logits)
