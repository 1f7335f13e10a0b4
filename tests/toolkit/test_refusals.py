"""What cannot be done is said in one line, with the right error; strict refuses whatever is not native."""

import pytest
import torch

import targets
from tests import tiny
from toolkit import NotNative, Recipe, TargetUnavailable, UsageError, report_of, transform


def test_keep_must_be_a_tuple():
    with pytest.raises(UsageError, match="keep must be a tuple"):
        Recipe(keep="qa_outputs")  # type: ignore[arg-type]


def test_report_of_another_graph():
    with pytest.raises(ValueError, match="transform"):
        report_of(torch.fx.symbolic_trace(torch.nn.Linear(1, 1)))


@pytest.mark.parametrize(
    "recipe, target, error, line",
    [
        (Recipe(), "tpu", UsageError, "unknown target 'tpu'; choose one of: aie, cpu, cuda, customcpu, hpu"),
        (Recipe("fp8"), "cpu", UsageError, "no precision 'fp8'; choose one of: fp, bf16, fp16, int"),
        (Recipe("fp"), "aie", UsageError, "no precision 'fp'; choose one of: int"),
        (
            Recipe("int", scheme="static"),
            "cpu",
            UsageError,
            "data to calibrate with; got none; give --calibration FILE",
        ),
        (Recipe("fp", scheme="static"), "cpu", UsageError, "static is for the precision int; got fp; leave it"),
        (Recipe("int"), "cuda", TargetUnavailable, r"torch.cuda.is_available\(\) is False"),
        (Recipe("int"), "hpu", UsageError, "no matrix product of 8-bit integers.*give --precision fp8"),
    ],
    ids=["unknown", "fp8 on cpu", "fp on aie", "static", "static fp", "cuda", "hpu"],
)
def test_what_cannot_be_says_so_in_one_line(recipe, target, error, line):
    with pytest.raises(error, match=line) as caught:
        transform(tiny.build("bert"), recipe, target=target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"precision": "int4"}, {"scheme": "lazy"}, {"ranges": "widest"}], ids=str)
def test_unknown_words_in_a_recipe(wrong):
    with pytest.raises(UsageError, match="choose one of"):
        Recipe(**wrong)


@pytest.mark.parametrize("percentile", [99.8, 100.0, float("nan")])
def test_percentiles_have_bounds(percentile):
    with pytest.raises(UsageError, match=r"percentile must lie in 99\.9\.\.99\.9999; got "):
        Recipe(percentile=percentile)


@pytest.mark.parametrize("target, precision", [("aie", "int"), ("cuda", "int"), ("hpu", "fp8")])
def test_strict_refuses_what_is_not_native(target, precision):
    with pytest.raises(NotNative, match=target):
        transform(tiny.build("bert"), Recipe(precision), target=target, strict=True)


def test_strict_customcpu_depends_on_the_compiled_kernels():
    execution = targets.get("customcpu").execution("int")
    model = tiny.build("bert")
    if execution.native:
        graph = transform(model, Recipe("int"), target="customcpu", strict=True)
        assert report_of(graph).target["executed"] == "customcpu"
    else:
        assert execution.executed == execution.isa == "reference" and execution.reason
        with pytest.raises(NotNative, match="customcpu"):
            transform(model, Recipe("int"), target="customcpu", strict=True)


def test_strict_runs_what_is_native():
    assert report_of(transform(tiny.build("bert"), strict=True)).target["native"] is True


def test_a_weight_that_is_not_finite_is_named():
    model = tiny.build("bert")
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.1\.output\.dense.*finite"):
        transform(model, Recipe("int"))


@pytest.mark.parametrize(
    "setting",
    [{"symmetric": True}, {"clip": True}, {"ranges": "mse"}, {"percentile": 99.99}, {"smooth": False},
     {"compensate": False}, {"correct_bias": False}],
    ids=str,
)  # fmt: skip
def test_another_quantizer_has_settings_of_its_own(setting, monkeypatch):
    monkeypatch.setattr("toolkit.quantizers.version", lambda package: "1")
    with pytest.raises(UsageError, match=f"goes by settings of its own; got {next(iter(setting))} "):
        transform(tiny.build("bert"), Recipe("int", quantizer="torchao", **setting))
