"""`calibrate` as a user calls it, and what `finetune` leaves."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.commands.folders import tiny_folder
from tests.models.samples import SQUAD
from toolkit.equalize.stored import FILE

DATA = str(SQUAD / "sample-v1.1.json.gz")
GIVEN = ("--calibration", DATA, "--samples", "9")
FEW = ("--limit", "3", "--epochs", "1", "--max-length", "100", "--stride", "16", "--no-bf16")


def calibration_of(cli: Cli, folder: Path) -> object:
    done = cli("--json", "--model", str(folder), "--precision", "int", "ask", "--question", "Who?", "--context", "Ann.")
    assert done.code == 0, done.err
    return done.json["calibration"]


def test_what_is_found_is_used_from_then_on(cli: Cli, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", "ask")
    assert calibration_of(cli, folder) is None
    done = cli("--json", "--model", str(folder), *GIVEN, "calibrate")
    assert done.code == 0, done.err
    report = done.json
    assert report["calibration"] == {"file": "sample-v1.1.json.gz", "samples": 9}
    assert (report["layers"], report["scheme"], report["output"]) == (12, "dynamic", str(folder / FILE))
    assert report["target"]["requested"] == "cpu"
    assert calibration_of(cli, folder) == {"file": "sample-v1.1.json.gz", "samples": 9, "stored": FILE}
    said = cli("--model", str(folder), *GIVEN, "calibrate")
    assert said.out.startswith(f"{folder / FILE}: 12 linears, ")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "give --calibration FILE"),
        (("--calibration", "none.json"), 1, "no file at none.json"),
        ((*GIVEN, "--precision", "bf16"), 2, "leave --precision out"),
        ((*GIVEN, "--scheme", "static"), 2, "is for the scheme dynamic, not static"),
        ((*GIVEN, "--scheme", "weight"), 2, "is for the scheme dynamic, not weight"),
        ((*GIVEN, "--quantizer", "torchao"), 2, "is for the native quantizer"),
    ],
    ids=["no data", "no file", "bf16", "static", "weight", "torchao"],
)
def test_what_cannot_be_done_is_said(cli: Cli, tmp_path: Path, options: tuple[str, ...], code: int, said: str) -> None:
    folder = tiny_folder(tmp_path / "model", "ask")
    done = cli("--model", str(folder), *options, "calibrate")
    assert (done.code, done.out) == (code, "") and said in done.err
    assert not (folder / FILE).exists()


def test_a_recipe_that_leaves_nothing_to_find_is_refused(cli: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("compensate: false\n")
    done = cli("--recipe", str(recipe), *GIVEN, "calibrate")
    assert done.code == 2 and "turns compensate off" in done.err


def test_a_fine_tuned_model_is_calibrated_unless_that_is_not_wanted(cli: Cli, tmp_path: Path) -> None:
    base = str(tiny_folder(tmp_path / "base", "ask"))
    for name, more in (("with", ()), ("without", ("--no-calibrate",))):
        place = tmp_path / name
        assert cli("finetune", "--base", base, "--train", DATA, "--output", str(place), *FEW, *more).code == 0
    assert calibration_of(cli, tmp_path / "with") == {"file": "sample-v1.1.json.gz", "samples": 3, "stored": FILE}
    assert calibration_of(cli, tmp_path / "without") is None


def test_what_was_trained_through_the_rounding_is_not_rounded_anew(cli: Cli, tmp_path: Path) -> None:
    base, place = str(tiny_folder(tmp_path / "base", "ask")), tmp_path / "out"
    files = ("--base", base, "--train", DATA, "--output", str(place), *FEW, "--qat")
    assert cli("finetune", *files, "--calibrate").code == 2
    assert cli("finetune", *files).code == 0
    assert not (place / FILE).exists()
