"""A quantized folder on targets and at precisions that have no int8: the float graph that its weights stand for."""

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from targets._bf16 import Bf16Linear
from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.test_cache import by_cache, llama
from toolkit import Recipe, UsageError, checkpoint, report_of, transform
from toolkit.cache import past_of, with_cache
from toolkit.pipeline import quantized
from toolkit.recipe import Rule
from toolkit.report import FROM_INT8

BF16 = (Rule("*.0.*", precision="bf16"),)
RECIPES = {
    "dynamic": Recipe("int"),
    "mixed": Recipe("int", rules=BF16),
    "weight": Recipe("int", scheme="weight"),
    "16 bits of activations": Recipe("int", activation_bits=16),
    "16 bits of both": Recipe("int", activation_bits=16, weight_bits=16),
    "smoothed": Recipe("int", scheme="static"),
}
# how near the weights are to those before: 8 bits, and 16
NEAR = {"16 bits of both": 80}
EVERYWHERE = (
    ("hpu", "fp8", 18),
    ("hpu", "bf16", 35),
    ("cpu", "bf16", 35),
    ("cpu", "fp16", 45),
    ("customcpu", "fp", 80),
    ("customcpu", "bf16", 35),
)


def loaded(model: nn.Module, recipe: Recipe, place: Path) -> fx.GraphModule:
    data = [tiny.inputs(model, 3, 17)] if recipe.is_static() else None
    checkpoint.save(quantized(model, recipe, data), model, recipe, place)
    return checkpoint.load(place)


@pytest.mark.parametrize("how", RECIPES)
@pytest.mark.parametrize("name", ["bert", "gpt2", "albert"])
def test_the_float_graph_is_what_the_weights_stand_for(name: str, how: str, tmp_path: Path) -> None:
    model, recipe = tiny.build(name), RECIPES[how]
    saved = loaded(model, recipe, tmp_path / "saved")
    floats = checkpoint.as_floats(saved)
    assert checkpoint.recipe_of(floats) is None and checkpoint.recipe_of(saved) == recipe  # a copy was made
    assert not any(isinstance(module, QuantizedLinear | Bf16Linear) for module in floats.modules())
    assert not any("rounding_error" in str(node.target) for node in floats.graph.nodes)
    batch = tiny.inputs(model, 3, 11)
    made, direct = transform(floats, Recipe("fp")), transform(model, Recipe("fp"))
    assert_sqnr(made(**batch).start_logits, direct(**batch).start_logits, NEAR.get(how, 25))
    assert report_of(made).weights == FROM_INT8 and report_of(direct).weights is None
    assert {entry["name"] for entry in report_of(made).kept} == {entry["name"] for entry in report_of(direct).kept}


@pytest.mark.parametrize("how", ["dynamic", "mixed", "weight"])
def test_it_is_the_model_of_the_same_weights_to_the_bit(how: str, tmp_path: Path) -> None:
    model = tiny.build("bert")
    floats = checkpoint.as_floats(loaded(model, RECIPES[how], tmp_path / "saved"))
    model.load_state_dict(checkpoint.read(tmp_path / "saved").state)
    batch = tiny.inputs(model, 3, 11)
    for target, precision, _ in (("cpu", "fp", 0), *EVERYWHERE):
        have, want = (transform(one, Recipe(precision), target) for one in (floats, model))
        assert have.code == want.code, f"{target} {precision}"
        assert_equal_bits(have(**batch).start_logits, want(**batch).start_logits, f"{target} {precision}")


@pytest.mark.parametrize("how", ["smoothed", "16 bits of both"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_what_only_opswap_reads_runs_everywhere(name: str, how: str, tmp_path: Path) -> None:
    model = tiny.build(name)
    floats = checkpoint.as_floats(loaded(model, RECIPES[how], tmp_path / "saved"))
    batch = tiny.inputs(model, 3, 11)
    real = batch["attention_mask"].bool()
    want = transform(floats, Recipe("fp"))(**batch).start_logits[real]
    for target, precision, least in EVERYWHERE:
        made = transform(floats, Recipe(precision), target)
        assert (report_of(made).precision, report_of(made).weights) == (precision, FROM_INT8)
        assert_sqnr(made(**batch).start_logits[real], want, least)


@pytest.mark.parametrize("precision", ["fp", "bf16", "fp8"])
def test_a_cache_stays(precision: str, tmp_path: Path) -> None:
    model, recipe = tiny.build(tiny.TIED), Recipe("int")
    checkpoint.save(quantized(with_cache(model), recipe), model, recipe, tmp_path / "saved")
    floats = checkpoint.as_floats(checkpoint.load(tmp_path / "saved"))
    made = transform(floats, Recipe(precision), "hpu")
    assert len(past_of(made)) == 4
    whole, want = by_cache(made), by_cache(transform(with_cache(model), Recipe("fp")))
    for have, float_logits in zip(whole, want, strict=True):
        assert_sqnr(have, float_logits, 15)


def test_a_model_that_names_float32_itself_stays_at_fp(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        model = llama().eval()
    recipe = Recipe("int", activation_bits=16)
    checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    floats = checkpoint.as_floats(checkpoint.load(tmp_path / "saved"))
    with pytest.raises(UsageError, match="float32 by itself.*give the precision fp"):
        transform(floats, Recipe("bf16"))
    transform(floats, Recipe("fp"))
