"""Rotated linears in folders and files: the same bits or answers as before, and folders that can't be used are said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.exporting import assert_same, exported, graph_of, read
from tests.toolkit.folders import edit
from tests.toolkit.test_cache import by_cache, language_model, llama, whole
from tests.toolkit.test_rotate import answers
from toolkit import CheckpointError, Recipe, checkpoint, report_of, transform
from toolkit.cache import with_cache
from toolkit.export import pt2
from toolkit.onnx_session import open_session
from toolkit.pipeline import lowered, quantized
from toolkit.rotated import Rotated

DYNAMIC = Recipe("int", rotate=True)
STATIC = replace(DYNAMIC, scheme="static")
WIDE = replace(DYNAMIC, activation_bits=16)
RECIPES = {"dynamic": DYNAMIC, "symmetric": replace(DYNAMIC, symmetric=True), "static": STATIC, "16 bits": WIDE}
# attention in bfloat16 turns levels, with large weights more of them: 31 dB without rotating too, both 23 from float
LEVELS_DB = {"language_model": 40.0, "llama": 28.0}
EXPORTED = ("dynamic", "symmetric", "static")  # two terms have no standard form
OTHERS = (("hpu", "fp8", 15), ("hpu", "bf16", 30), ("cpu", "bf16", 30), ("customcpu", "fp", 35))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny.build("bert")
    checkpoint.save(quantized(model, DYNAMIC), model, DYNAMIC, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("how", RECIPES)
@pytest.mark.parametrize("name", ["bert", "albert", tiny.TIED])
def test_loaded_graphs_have_the_same_bits(name: str, how: str, tmp_path: Path) -> None:
    model, recipe = tiny.build(name), RECIPES[how]
    batch = tiny.inputs(model, 3, 11)
    data = [batch] if recipe.is_static() else None
    graph = quantized(model, recipe, data)
    saved = checkpoint.save(checkpoint.copied(graph), model, recipe, tmp_path / "saved")
    assert saved.portable == "its linears read rotated rows; others can read it without --rotate"
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    loaded = checkpoint.load(tmp_path / "saved")
    assert checkpoint.recipe_of(loaded) == recipe
    for target in ("cpu", "customcpu", "aie"):
        direct, again = transform(model, recipe, target, data=data), transform(loaded, target=target)
        assert report_of(again).fused == report_of(direct).fused
        assert_equal_bits(answers(again, batch), answers(direct, batch), target)


@pytest.mark.parametrize("block", [0, 1, 3, 256, "32", None], ids=str)
def test_a_damaged_block_is_one_line(folder: Path, block: object) -> None:
    edit(folder, lambda document: document["layers"]["rotated_32"].update(block=block))
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(folder)
    assert "rotates by blocks of" in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_the_version_before_is_read(tmp_path: Path) -> None:
    model, recipe = tiny.build("bert"), Recipe("int")
    checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    edit(tmp_path / "saved", lambda document: document.update(version=2))
    assert report_of(transform(checkpoint.load(tmp_path / "saved"))).swapped == 12


@pytest.mark.parametrize("target, precision, least", OTHERS)
def test_other_precisions_have_the_same_answers(folder: Path, target: str, precision: str, least: float) -> None:
    model = tiny.build("bert")
    floats, batch = checkpoint.as_floats(checkpoint.load(folder)), tiny.inputs(model, 3, 11)
    assert any(isinstance(module, Rotated) for module in floats.modules())
    assert_sqnr(answers(transform(floats, Recipe(precision), target), batch), answers(model, batch), least)


@pytest.mark.parametrize("how", EXPORTED)
def test_onnx_computes_what_cpu_computes(how: str) -> None:
    graph, session = graph_of("bert", RECIPES[how]), open_session(exported("bert", RECIPES[how])[0], threads=1)
    assert_same(graph, session, tiny.build("bert"), RECIPES[how])


@pytest.mark.parametrize("how", EXPORTED)
def test_a_program_is_read_back_with_the_same_integers(how: str, tmp_path: Path) -> None:
    graph, path, model = graph_of("bert", RECIPES[how]), tmp_path / "bert.pt2", tiny.build("bert")
    pt2.write(checkpoint.copied(graph), path, {"made": "here"})
    assert_same(graph, pt2.read(path), model, RECIPES[how])
    back = read(pt2.read(path))
    for name, linear in graph.named_modules():
        if isinstance(linear, QuantizedLinear):
            assert_equal_bits(back.get_submodule(name).weight, linear.weight)
    batch = tiny.inputs(model, 2, 9)
    want = answers(lowered(checkpoint.copied(graph), RECIPES[how], "cpu"), batch)
    for target in ("cpu", "customcpu", "aie"):
        assert_sqnr(answers(transform(pt2.read(path), Recipe("int"), target), batch), want, 30)


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
@pytest.mark.parametrize("make", [language_model, llama], ids=["gpt2", "llama"])
def test_token_by_token_is_the_whole_text(make: Callable[[], nn.Module], target: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    plain, cached = (transform(one, DYNAMIC, target) for one in (model, with_cache(model)))
    for have, want in zip(by_cache(cached), whole(plain), strict=True):
        assert_sqnr(have, want, LEVELS_DB[make.__name__])
