"""`eval` on real questions, and its gate."""

import json
from pathlib import Path

import pytest

from tests.cli import Cli

DATA = Path(__file__).parents[1] / "data" / "squad"
SAMPLE = str(DATA / "sample-v1.1.json.gz")
SAMPLE_V2 = str(DATA / "sample-v2.0.json.gz")


def test_int8_stays_near_float_and_targets_agree(cli: Cli, tmp_path) -> None:
    def run(target: str, precision: str) -> tuple[dict, dict]:
        file = tmp_path / f"{target}-{precision}.json"
        arguments = ("--json", "--target", target, "--precision", precision, "eval", "--data", SAMPLE, "--limit", "60")
        result = cli(*arguments, "--predictions", str(file))
        assert result.code == 0, result.err
        return result.json, json.loads(file.read_text("utf-8"))

    float_report, float_answers = run("cpu", "fp")
    custom_report, custom_answers = run("customcpu", "int")
    aie_report, aie_answers = run("aie", "int")
    cpu_report, cpu_answers = run("cpu", "int")
    assert aie_answers == custom_answers and aie_report["f1"] == custom_report["f1"]
    assert float_report["total"] == 60 and float_report["f1"] > 60
    # On 60 questions one changed answer is up to 1.7 points.
    for report, answers in ((custom_report, custom_answers), (cpu_report, cpu_answers)):
        assert abs(report["f1"] - float_report["f1"]) < 5
        assert sum(float_answers[key] == answers[key] for key in float_answers) >= 52


def test_version_2_reports_both_kinds_of_question(cli: Cli) -> None:
    report = cli("--json", "eval", "--data", SAMPLE_V2, "--limit", "40").json
    assert report["HasAns_total"] + report["NoAns_total"] == report["total"] == 40
    assert report["NoAns_exact_match"] == report["NoAns_f1"]
    all_null = cli("--json", "eval", "--data", SAMPLE_V2, "--limit", "40", "--no-answer", "-1000").json
    assert (all_null["NoAns_f1"], all_null["HasAns_f1"]) == (100.0, 0.0)


def test_the_gate_compares_with_a_saved_report(cli: Cli, tmp_path) -> None:
    report = tmp_path / "report.json"
    arguments = ("--json", "eval", "--data", SAMPLE, "--limit", "10")
    report.write_text(cli(*arguments).out)
    same = cli(*arguments, "--baseline", str(report), "--max-drop", "0")
    assert (same.code, same.json["passed"], same.json["drop"]) == (0, True, 0.0)
    report.write_text(json.dumps({"f1": 101.0}))
    missed = cli(*arguments, "--baseline", str(report), "--max-drop", "0.5")
    assert (missed.code, missed.json["passed"]) == (3, False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("eval", "--data", "none.json"), 1, "no file"),
        (("eval", "--data", __file__), 1, "JSON"),
        (("eval", "--data", SAMPLE, "--baseline", SAMPLE), 1, "no report"),
        (("eval", "--data", SAMPLE, "--max-length", "100"), 1, "window"),
    ],
)
def test_what_cannot_be_evaluated_is_said(cli: Cli, arguments: tuple, code: int, said: str) -> None:
    result = cli(*arguments)
    assert result.code == code and said in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [("eval",), ("eval", "--data", SAMPLE, "--max-drop", "1"), ("nonsense",)])
def test_wrong_usage_has_its_exit_code(cli: Cli, arguments: tuple) -> None:
    assert cli(*arguments).code == 2
