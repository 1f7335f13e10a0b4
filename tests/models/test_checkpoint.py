"""A state that is damaged, or of another run, is refused in one line."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models import InputError
from models.finetune import weights_checksum
from models.finetune.checkpoint import FILE
from tests.models.runs import AVERAGED, EXAMPLES, SETTINGS, run


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 3),
        ("learning_rate", 1e-3),
        ("batch_size", 4),
        ("warmup", 0.2),
        ("weight_decay", 0.0),
        ("clip", 2.0),
        ("max_length", 120),
        ("stride", 15),
        ("unanswerable", 0.5),
        ("average", 0.6),
        ("bf16", True),
        ("seed", 1),
    ],
)
def test_a_state_of_other_settings_is_one_line(stopped: Path, setting: str, value: object) -> None:
    # The seed and the share of unanswerable questions change the data too, which comes first.
    said = "data=" if setting in ("unanswerable", "seed") else f"{setting}={getattr(SETTINGS, setting)}"
    refused(stopped, said, settings=replace(SETTINGS, **{setting: value}))


def test_a_state_of_another_dropout_or_of_other_questions_is_one_line(stopped: Path) -> None:
    refused(stopped, r"dropout=\[0.1\], this one has \[0.0\]", dropout=0.0)
    refused(stopped, "data=", examples=EXAMPLES[::-1])


def test_a_state_of_another_base_is_one_line(stopped: Path) -> None:
    refused(stopped, "base=0, this one has 5", base=5)


def test_the_checksum_of_weights_sees_names_shapes_and_values() -> None:
    names, values = ("one", "two"), [torch.ones(2, 3), torch.zeros(3)]
    others = [
        (names[::-1], values),
        (names, [torch.ones(3, 2), torch.zeros(3)]),
        (names, [torch.ones(2, 3), torch.tensor([0.0, 0.0, 1e-9])]),
    ]
    sums = {weights_checksum(nn.ParameterDict(dict(zip(*parts, strict=True)))) for parts in [(names, values), *others]}
    assert len(sums) == 4
    again = nn.ParameterDict(dict(zip(names, [value.clone() for value in values], strict=True)))
    assert weights_checksum(again) in sums


def refused(folder: Path, said: str, **options: object) -> None:
    with pytest.raises(InputError, match=said) as error:
        run(folder, **options)
    assert "--no-resume" in str(error.value) and "\n" not in str(error.value)


def rewrite(path: Path, notes: dict[str, str] | None, drop: str = "", shape: str = "") -> None:
    with safe_open(path, framework="pt") as file:
        saved = file.metadata()
    tensors = {name: value for name, value in load_file(path).items() if name != drop}
    if shape:
        tensors[shape] = tensors[shape][..., :1].clone()
    save_file(tensors, path, None if notes is None else saved | notes)


@pytest.mark.parametrize(
    ("notes", "drop", "shape", "said"),
    [
        (None, "", "", "damaged"),
        ({"step": "four"}, "", "", "damaged"),
        ({"step": "-1"}, "", "", "damaged"),
        ({"step": "11"}, "", "", "step 11, this run has 10"),
        ({"run": "{"}, "", "", "damaged"),
        ({"run": json.dumps({})}, "", "", "of a run with"),
        ({}, "model.qa_outputs.bias", "", "another model"),
        ({}, "exp_avg.qa_outputs.bias", "", "another model"),
        ({}, "step.qa_outputs.bias", "", r"step.qa_outputs.bias is missing, wanted \(\)"),
        ({}, "", "model.qa_outputs.bias", "another model"),
        ({}, "", "exp_avg_sq.bert.encoder.layer.0.output.dense.weight", "another model"),
    ],
    ids=[
        "no notes",
        "step in words",
        "step below",
        "step beyond",
        "notes cut",
        "no settings",
        "weight",
        "moment",
        "count",
        "shape",
        "other shape",
    ],  # fmt: skip
)
def test_a_state_that_does_not_fit_is_one_line(
    stopped: Path, notes: dict[str, str] | None, drop: str, shape: str, said: str
) -> None:
    rewrite(stopped / FILE, notes, drop, shape)
    with pytest.raises(InputError, match=said) as error:
        run(stopped)
    assert str(stopped / FILE) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("notes", "drop", "shape", "said"),
    [
        ({}, "mean.qa_outputs.bias", "", "mean.qa_outputs.bias is missing, wanted (2,)"),
        ({}, "", "mean.qa_outputs.weight", "mean.qa_outputs.weight is (2, 1), wanted (2, 16)"),
        ({"averaged": "one"}, "", "", "damaged"),
        ({"averaged": "0"}, "", "", "damaged"),
        ({"averaged": "-1"}, "", "", "damaged"),
    ],
    ids=["mean missing", "mean of another shape", "count in words", "count of none", "count below"],
)
def test_a_mean_that_does_not_fit_is_one_line(
    stopped_with_mean: Path, notes: dict[str, str], drop: str, shape: str, said: str
) -> None:
    rewrite(stopped_with_mean / FILE, notes, drop, shape)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        run(stopped_with_mean, AVERAGED)
    assert str(stopped_with_mean / FILE) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 4, 1000, -1000])
def test_a_state_that_is_cut_is_one_line(stopped: Path, length: int) -> None:
    path = stopped / FILE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="damaged.*delete it"):
        run(stopped)
