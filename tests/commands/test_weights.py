"""A checkpoint with a weight that no 8 bits can stand for."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.models.samples import tiny_bert, tiny_folder


@pytest.mark.parametrize(("target", "precision"), [("customcpu", "int"), ("hpu", "fp8")])
def test_a_weight_that_is_not_finite_is_named(cli: Cli, tmp_path: Path, target: str, precision: str) -> None:
    folder, model = tiny_folder(tmp_path), tiny_bert()
    model.bert.encoder.layer[0].output.dense.weight.data[3, 4] = float("nan")
    model.save_pretrained(folder)
    result = cli("--model", str(folder), "--target", target, "--precision", precision, "ask", "--question", "Who?")
    said = "linear bert.encoder.layer.0.output.dense cannot be quantized", "must be finite; got NaN or infinity"
    result.fails_in_one_line(1, *said)
