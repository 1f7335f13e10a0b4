"""The scheme weight: int8 weights, float activations, on every target that has it, saved and loaded too."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from targets._float import PackedWeightLinear
from targets._weight import LARGE, WeightLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from toolkit import Recipe, Rule, UsageError, checkpoint, report_of, transform
from toolkit.adopt import adopted
from toolkit.checkpoint.layers import pack, unpack
from toolkit.pipeline import quantized

WEIGHT = Recipe(precision="int", scheme="weight")
DATA = [tiny.inputs(tiny.build("bert"), 3, 20, seed) for seed in range(3)]


def logits(graph, batch):
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        return graph(**batch).start_logits[real]


@pytest.mark.parametrize(
    ("target", "db"), [("cpu", 100), ("customcpu", 40)], ids=["cpu", "customcpu, bfloat16 attention"]
)
@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_the_result_is_that_of_the_rounded_weights(name, target, db):
    model = tiny.build(name)
    batch = tiny.inputs(model, 3, 20)
    graph = transform(model, WEIGHT, target)
    kinds = {type(module) for module in graph.modules()} & {WeightLinear, PackedWeightLinear}
    assert kinds == {WeightLinear if target == "cpu" else PackedWeightLinear}
    expected = logits(quantized(model, WEIGHT), batch)
    assert_sqnr(logits(graph, batch), expected, db)
    assert 30 < sqnr(expected, logits(model, batch)) < 70, "weights are rounded, nothing else is"


@pytest.mark.parametrize("rows", [LARGE, LARGE + 1])
def test_a_large_weight_in_pieces(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, scale = torch.randint(-127, 128, (rows, 8), generator=generator, dtype=torch.int8), torch.rand(rows)
    x = torch.randint(-9, 10, (3, 8), generator=generator).float()  # sums without rounding, in whatever order
    assert torch.equal(WeightLinear(weight, scale, None)(x), x @ weight.float().T * scale)


def test_the_report_counts_them_as_swapped():
    report = report_of(transform(tiny.build("bert"), WEIGHT, "customcpu"))
    assert (report.scheme, report.swapped, report.fused["qkv"], report.fused["packing"]) == ("weight", 12, 2, 1)


def test_one_linear_can_have_it():
    rules = (Rule("*.0.*.query", scheme="weight"), Rule("*.1.output.dense", scheme="weight"))
    graph = quantized(tiny.build("bert"), Recipe("int", rules=rules))
    found = [name for name, module in graph.named_modules() if isinstance(module, WeightLinear)]
    assert found == ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense"]
    assert report_of(transform(tiny.build("bert"), Recipe("int", rules=rules), "cpu")).swapped == 12


def test_data_makes_the_weights_better():
    model = tiny.build("bert")
    expected = logits(model, DATA[-1])
    plain, compensated = (
        sqnr(logits(transform(model, WEIGHT, data=data), DATA[-1]), expected) for data in (None, DATA)
    )
    report = report_of(transform(model, WEIGHT, data=DATA))
    assert compensated > plain + 0.5
    assert report.equalized == {"smooth": 0, "compensate": 12, "correct_bias": 12}, "nothing to smooth: x is float"


@pytest.mark.parametrize(
    "recipe", [WEIGHT, Recipe("int", rules=(Rule("*.query", scheme="weight"),))], ids=["all", "one"]
)
def test_a_target_without_it_says_so(recipe):
    with pytest.raises(
        UsageError, match="target aie has no linears of the scheme 'weight'; choose one of: dynamic, st"
    ):
        transform(tiny.build("bert"), recipe, "aie")


def test_it_is_for_int():
    with pytest.raises(UsageError, match="the scheme weight is for the precision int; got bf16"):
        transform(tiny.build("bert"), Recipe("bf16", scheme="weight"), "cpu")


@pytest.mark.parametrize("k", [1, 3, 4, 7, 8])
def test_packed_bytes_come_back(k):
    weight = torch.randint(-128, 128, (5, k), dtype=torch.int8)
    made = pack(weight)
    assert made["weight_packed"].shape == (5, -(-k // 4)) and made["weight_shape"].tolist() == [5, k]
    first = [(int(made["weight_packed"][0, 0]) >> 8 * i) & 255 for i in range(min(k, 4))]
    assert first == [int(value) + 128 for value in weight[0, :4]]
    assert_equal_bits(unpack("a", {f"a.{name}": tensor for name, tensor in made.items()}), weight)


@pytest.mark.parametrize("mixed", [False, True], ids=["all", "beside dynamic ones"])
def test_a_saved_folder_is_loaded_to_the_bit(mixed: bool, tmp_path: Path) -> None:
    model = tiny.build("bert")
    recipe = Recipe("int", rules=(Rule("*.dense", scheme="weight"),)) if mixed else WEIGHT
    place = tmp_path / "saved"
    checkpoint.save(quantized(model, recipe), model, recipe, place)
    loaded = checkpoint.load(place)
    for target in ("cpu", "customcpu"):
        direct, again = transform(model, recipe, target), transform(loaded, target=target)
        assert report_of(again) == report_of(direct)
        assert_equal_bits(logits(again, DATA[0]), logits(direct, DATA[0]))
    with pytest.raises(UsageError, match="target aie has no linears of the scheme 'weight'"):
        transform(loaded, target="aie")
    tensors, name = load_file(place / "model.safetensors"), "bert.encoder.layer.0.output.dense"
    assert f"{name}.weight" not in tensors and tensors[f"{name}.weight_packed"].dtype == torch.int32
    config = json.loads((place / "config.json").read_text("utf-8"))["quantization_config"]
    assert config["format"] == ("mixed-precision" if mixed else "pack-quantized")
    formats = {group["format"]: group["input_activations"] for group in config["config_groups"].values()}
    assert formats["pack-quantized"] is None and len(formats) == 1 + mixed
    for own in ("opswap.json", "opswap.safetensors"):
        (place / own).unlink()
    foreign = adopted(model, checkpoint.read(place).layers)
    assert_equal_bits(logits(transform(foreign), DATA[0]), logits(transform(model, recipe), DATA[0]))


@pytest.mark.parametrize("target", ["cpu", "customcpu"])
@pytest.mark.parametrize(
    ("rules", "scheme", "schemes"),
    [
        ((Rule("*", scheme="weight"),), "weight", {"weight": 12}),
        ((Rule("*.query", scheme="weight"),), "dynamic", {"dynamic": 10, "weight": 2}),
        ((Rule("*.query", activation_bits=16),), "dynamic", {"dynamic": 12}),
        ((Rule("*", "fp"),), "dynamic", {}),
    ],
    ids=["all by a rule", "some by a rule", "second terms", "none"],
)
def test_the_report_says_the_schemes_that_there_are(target, rules, scheme, schemes):
    report = report_of(transform(tiny.build("bert"), Recipe("int", rules=rules), target))
    assert (report.scheme, report.schemes) == (scheme, schemes) and sum(schemes.values()) == report.swapped


def test_no_precision_but_int_has_schemes():
    assert report_of(transform(tiny.build("bert"), Recipe())).schemes == {}
