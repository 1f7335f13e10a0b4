"""--scheme static: calibrated on a file, once, and said in the report."""

from pathlib import Path

import pytest

from tests.cli import Cli

DATA = Path(__file__).parents[1] / "data" / "squad"
SAMPLE = str(DATA / "sample-v1.1.json.gz")
STATIC = ("--target", "customcpu", "--precision", "int", "--scheme", "static")
EVAL = ("eval", "--data", SAMPLE, "--limit", "60")


def test_static_is_near_float_and_says_what_it_was_calibrated_on(cli: Cli, calibrations: Path) -> None:
    given = ("--calibration", str(DATA / "sample-v2.0.json.gz"), "--samples", "30", "--ranges", "mse", "--json")
    first = cli(*STATIC, *given, *EVAL)
    assert first.code == 0, first.err
    report = first.json
    assert report["scheme"] == "static" and report["swapped"] == 36 and report["fused"]["gelu"] == 6
    calibration = report["calibration"]
    assert (calibration["file"], calibration["samples"], calibration["ranges"]) == ("sample-v2.0.json.gz", 30, "mse")
    assert calibration["symmetric"] is False
    assert calibration["batches"] >= 2 and calibration["tokens"] > 3000
    assert abs(report["f1"] - cli("--json", *EVAL).json["f1"]) < 8  # one changed answer is up to 1.7 points
    (file,) = calibrations.iterdir()
    before = file.stat().st_mtime_ns
    assert cli(*STATIC, *given, *EVAL).json["f1"] == report["f1"]
    assert [found.stat().st_mtime_ns for found in calibrations.iterdir()] == [before]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give --calibration FILE"),
        (("--calibration", "none.json"), 1, "no file at none.json"),
        (("--calibration", SAMPLE, "--ranges", "widest"), 2, "choose one of: minmax, percentile, mse, entropy"),
        (("--calibration", SAMPLE, "--ranges", "percentile", "--percentile", "50"), 2, "percentile must lie in"),
    ],
    ids=["no data", "no file", "ranges", "percentile"],
)
def test_what_cannot_be_calibrated_is_said(cli: Cli, arguments: tuple[str, ...], code: int, said: str) -> None:
    cli(*STATIC, *arguments, *EVAL).fails_in_one_line(code, said)
