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
        (("--target", "nope", *GIVEN), 2, "nope"),
        ((*GIVEN, "--without", "gelu"), 2, "--without has no part in calibrate"),
        ((*GIVEN, "--strict"), 2, "--strict has no part in calibrate"),
        (("--calibration", "none.json"), 1, "no file at none.json"),
        ((*GIVEN, "--precision", "bf16"), 2, "leave --precision out"),
        ((*GIVEN, "--scheme", "static"), 2, "is for the scheme dynamic, not static"),
        ((*GIVEN, "--scheme", "weight"), 2, "is for the scheme dynamic, not weight"),
        ((*GIVEN, "--quantizer", "torchao"), 2, "is for the native quantizer"),
    ],
    ids=["no data", "no target", "without", "strict", "no file", "bf16", "static", "weight", "torchao"],
)
def test_what_cannot_be_done_is_said(cli: Cli, tmp_path: Path, options: tuple[str, ...], code: int, said: str) -> None:
    folder = tiny_folder(tmp_path / "model", "ask")
    done = cli("--model", str(folder), *options, "calibrate")
    assert (done.code, done.out) == (code, "") and said in done.err
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        ("compensate: false\n", 2, "turns compensate off"),
        ("correct_bias: false\n", 2, "turns correct_bias off"),
        ("weight_bits: 16\n", 1, "the recipe leaves none in 8 bits"),
    ],
    ids=["compensate", "correct_bias", "16 bits"],
)
def test_a_recipe_that_leaves_nothing_to_find_is_refused(
    cli: Cli, tmp_path: Path, written: str, code: int, said: str
) -> None:
    """What an earlier call left stays."""
    folder, recipe = tiny_folder(tmp_path / "model", "ask"), tmp_path / "recipe.yaml"
    (folder / FILE).write_bytes(b"of before")
    recipe.write_text(written)
    done = cli("--model", str(folder), "--recipe", str(recipe), *GIVEN, "calibrate")
    assert done.code == code and said in done.err
    assert (folder / FILE).read_bytes() == b"of before"


def test_a_training_is_not_lost_where_calibration_fails(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("commands.calibrate.write", full)
    base, place = str(tiny_folder(tmp_path / "base", "ask")), tmp_path / "out"
    done = cli("--json", "finetune", "--base", base, "--train", DATA, "--output", str(place), *FEW)
    assert done.code == 0 and (done.json["output"], done.json["calibration"]) == (str(place), None)
    assert f"{place} is not calibrated for 8 bits: " in done.err and "No space left" in done.err


def test_a_fine_tuned_model_is_calibrated_unless_that_is_not_wanted(cli: Cli, tmp_path: Path) -> None:
    base = str(tiny_folder(tmp_path / "base", "ask"))
    found = {"file": "sample-v1.1.json.gz", "samples": 3}
    for name, more, want in (("with", (), found), ("without", ("--no-calibrate",), None)):
        place = tmp_path / name
        done = cli("--json", "finetune", "--base", base, "--train", DATA, "--output", str(place), *FEW, *more)
        assert done.code == 0 and done.json["calibration"] == want
        assert calibration_of(cli, place) == (want and {**want, "stored": FILE})


def test_what_was_trained_through_the_rounding_is_not_rounded_anew(cli: Cli, tmp_path: Path) -> None:
    base, place = str(tiny_folder(tmp_path / "base", "ask")), tmp_path / "out"
    files = ("--base", base, "--train", DATA, "--output", str(place), *FEW, "--qat")
    assert cli("finetune", *files, "--calibrate").code == 2
    assert cli("--json", "finetune", *files).json["calibration"] is None
    assert not (place / FILE).exists()
