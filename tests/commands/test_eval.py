"""`eval` on real questions, and its gate."""

import json
from pathlib import Path

import pytest

from models.question_answering.examples import read_examples
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


def test_questions_that_are_cut_are_counted(cli: Cli, tmp_path: Path) -> None:
    rows = [{"id": str(number), "context": "Ann slept.", "question": "Who " * words, "answers": [{"text": "Ann",
             "answer_start": 0}]} for number, words in enumerate((3, 64, 65, 200))]  # fmt: skip
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    for count, limit in ((2, "4"), (0, "2")):
        result = cli("--json", "eval", "--data", str(file), "--limit", limit)
        assert result.json["questions_truncated"] == count
        said = "2 of 4 questions have more than 64 tokens: their first 64 are read"
        assert [row for row in result.err.splitlines() if "tokens" in row] == [said] * (count > 0)


def test_version_2_reports_both_kinds_of_question(cli: Cli) -> None:
    report = cli("--json", "eval", "--data", SAMPLE_V2, "--limit", "40").json
    assert report["HasAns_total"] + report["NoAns_total"] == report["total"] == 40
    assert report["NoAns_exact_match"] == report["NoAns_f1"]
    all_null = cli("--json", "eval", "--data", SAMPLE_V2, "--limit", "40", "--no-answer", "-1000").json
    assert (all_null["NoAns_f1"], all_null["HasAns_f1"]) == (100.0, 0.0)


def test_int8_passes_the_gate_against_its_float_baseline(cli: Cli, tmp_path) -> None:
    baseline = tmp_path / "float.json"
    baseline.write_text(cli("--json", "eval", "--data", SAMPLE).out, "utf-8")
    # 0.1 F1 is the whole development set's; of 121 questions one answer is 0.8.
    gate = ("eval", "--data", SAMPLE, "--baseline", str(baseline), "--max-drop", "1")
    passed = cli("--json", "--target", "customcpu", "--precision", "int", *gate)
    assert passed.code == 0, passed.err
    report = passed.json
    assert report["passed"] and report["baseline_f1"] == json.loads(baseline.read_text("utf-8"))["f1"]
    assert report["equal_answers"] >= 0.95 * 121 and len(report["answers"]) == 121
    assert report["interval"][0] <= report["drop"] <= report["interval"][1]
    assert len(report["most_changed"]) == min(10, 121 - report["equal_answers"])


def test_a_missed_gate_says_how_far_and_which_questions(cli: Cli, tmp_path) -> None:
    examples = read_examples(SAMPLE, 40)
    perfect = {example.id: example.answers[0][0] for example in examples}
    baseline = tmp_path / "perfect.json"
    baseline.write_text(json.dumps({"f1": 100.0, "total": 40, "answers": perfect}), "utf-8")
    gate = ("eval", "--data", SAMPLE, "--limit", "40", "--baseline", str(baseline), "--max-drop", "0.1")
    integers = ("--target", "customcpu", "--precision", "int")
    missed = cli(*integers, *gate)
    assert missed.code == 3 and "F1 fell by" in missed.err and "at most 0.1 accepted" in missed.err
    for said in ("95% interval", "equal answers", "gold", "before", "now"):
        assert said in missed.out
    report = cli("--json", *integers, *gate).json
    assert not report["passed"] and report["drop"] > 0.1 and report["most_changed"][0]["f1_before"] == 1.0


def test_a_summary_gates_on_f1_alone(cli: Cli, tmp_path) -> None:
    baseline = tmp_path / "summary.json"
    arguments = ("eval", "--data", SAMPLE, "--limit", "10")
    baseline.write_text(cli("--json", *arguments, "--summary").out, "utf-8")
    assert "answers" not in json.loads(baseline.read_text("utf-8"))
    same = cli(*arguments, "--baseline", str(baseline), "--max-drop", "0")
    assert same.code == 0 and "drop +0.000; no interval" in same.out and "holds no answers" in same.out
    others = cli("eval", "--data", SAMPLE, "--limit", "11", "--baseline", str(baseline))
    others.fails_in_one_line(1, "10 questions", "11 of", "--limit")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("eval", "--data", "none.json"), 1, "no file"),
        (("eval", "--data", __file__), 1, "JSON"),
        (("eval", "--data", SAMPLE, "--baseline", SAMPLE), 1, "no report"),
        (("eval", "--data", SAMPLE, "--max-length", "100"), 1, "window"),
        (("eval", "--data", SAMPLE, "--no-answer", "1"), 2, "--no-answer is for questions without an answer"),
    ],
)
def test_what_cannot_be_evaluated_is_said(cli: Cli, arguments: tuple, code: int, said: str) -> None:
    result = cli(*arguments)
    assert result.code == code and said in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [("eval",), ("eval", "--data", SAMPLE, "--max-drop", "1"), ("nonsense",)])
def test_wrong_usage_has_its_exit_code(cli: Cli, arguments: tuple) -> None:
    assert cli(*arguments).code == 2
