"""`plan` on a tiny model: the JSON, the tables, the files, and what can't be had."""

import json
from pathlib import Path

import pytest

from tests.cli import Cli, Result
from tests.models.samples import tiny_folder

PARTS = ["compute", "memory", "dispatch", "reconfiguration", "host"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def run_plan(cli: Cli, tiny: str):
    def run(*more: str, as_json: bool = True) -> Result:
        options = ("--model", tiny, "--target", "aie", "--precision", "int")
        return cli(*(("--json",) if as_json else ()), *options, "plan", "--sequence-length", "16", *more)

    return run


def test_json_has_every_linear_and_where_the_time_goes(run_plan) -> None:
    report = run_plan("--batch-size", "2").json
    assert (report["batch_size"], report["sequence_length"], report["old_example"]) == (2, 16, None)
    assert report["target"]["executed"] == "aie-emulated" and report["swapped"] == 6
    assert [one["name"] for one in report["devices"]] == ["xdna2", "xdna"]
    assert report["model_error"]["points"] == 15 and report["model_error"]["largest"] < 10
    for one in report["devices"]:
        assert list(one["parts_ms"]) == PARTS
        assert sum(one["parts_ms"].values()) == pytest.approx(one["latency_ms"], abs=0.001)
        assert one["samples_per_second"] == pytest.approx(2000 / one["latency_ms"], rel=0.01)
        assert [linear["gemm"] for linear in one["linears"]] == [[32, 16, 48], [32, 16, 16], [32, 16, 32], [32, 32, 16]]
        assert one["dispatches"] == 4 and all(linear["tile"] == one["tile"] for linear in one["linears"])
        assert all(linear["bound"].startswith("dispatch") for linear in one["linears"])
        assert 0 < one["linears"][0]["waste"] < 1
        assert list(one["what_if_ms_a_sample"].values())[0] == pytest.approx(one["latency_ms"] / 2, abs=0.001)
        assert one["parameters"]["name"] == one["name"]


def test_tables(run_plan) -> None:
    lines = run_plan("--npu", "xdna", as_json=False).out.splitlines()
    assert lines[0].endswith("batch 1, 16 tokens, on XDNA (Phoenix, Hawk Point): " + lines[0].rpartition(": ")[2])
    assert "ms, predicted" in lines[0]
    text = "\n".join(lines)
    for word in ("M×K×N", "16×16×48", "bound by", "dispatch, memory", "queued behind each other", "15 measured points"):
        assert word in text
    for part in PARTS:
        assert part in text
    assert text.index("XDNA (Phoenix") < text.index("XDNA2 (Strix") and "old example" not in text


def test_files_are_written(run_plan, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "plan"
    report = run_plan("--output", str(output)).json
    assert sorted(path.name for path in output.parent.iterdir()) == ["plan.json", "plan.png"]
    assert json.loads(Path(f"{output}.json").read_text("utf-8")) == report
    assert Path(f"{output}.png").read_bytes().startswith(b"\x89PNG")


def test_a_device_of_ones_own(run_plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "two columns.yaml"
    mine.write_text("base: xdna2\ncolumns: 2\ntitle: a quarter of XDNA2\n", "utf-8")
    report = run_plan("--npu", str(mine)).json
    assert [one["name"] for one in report["devices"]] == ["two columns", "xdna", "xdna2"]
    assert report["devices"][0]["parameters"]["columns"] == 2
    monkeypatch.setenv("OPSWAP_AIE_DEVICE", "xdna")
    assert run_plan().json["devices"][0]["name"] == "xdna"


def test_narrow_outputs_are_planned_as_such(run_plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWAP_AIE_OUTPUT", "int16")
    assert {linear["out"] for linear in run_plan().json["devices"][0]["linears"]} == {"int16"}


def test_bert_large_stands_beside_amds_old_example() -> None:
    """The words and numbers without the model, which takes a minute to make: tests/targets/aie has the rest"""
    from commands import plan_report
    from targets.aie.devices import XDNA
    from tests.targets.aie.test_plan import LARGE

    entry = plan_report.entry(XDNA, LARGE, 1)
    result = {"devices": [entry], "old_example": plan_report.old(), "model_error": plan_report.errors()}
    said = list(plan_report.notes(result))[-1]
    assert "3.5 to 7.8 s a question" in said and "2304 launches" in said and "96 launches" in said
    assert f"{entry['latency_ms'] / 1000:.3f} s." in said


def test_what_can_not_be_had_is_one_line(run_plan, cli: Cli, tiny: str) -> None:
    run_plan("--npu", "npu").fails_in_one_line(2, "unknown device 'npu'; choose one of: xdna, xdna2")
    wrong = cli("--model", tiny, "--target", "customcpu", "--precision", "int", "plan")
    assert wrong.code == 2 and "give --target aie --precision int; got customcpu and int" in wrong.err
    assert cli("--target", "aie", "plan").code == 2


def test_a_model_without_linears_in_8_bits(run_plan, cli: Cli, tiny: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text('keep: ["*"]\n', "utf-8")
    options = ("--model", tiny, "--target", "aie", "--precision", "int", "--recipe", str(recipe))
    result = cli(*options, "plan", "--sequence-length", "16")
    assert result.code == 1 and "nothing for the NPU to do" in result.err
