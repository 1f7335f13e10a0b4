"""`validate` on the embedded model and on tiny ones: pairs, limits, files from elsewhere, every task."""

from pathlib import Path

import pytest

from commands.onnx_side import ran
from targets._onnx import CPU, Opened
from targets.base import TargetUnavailable
from tests.cli import Cli
from tests.commands.folders import tiny_folder
from toolkit.inputs import Inputs
from toolkit.onnx_session import OnnxModel

TASKS = ("ask", "encode", "classify", "tag", "generate")


def test_targets_against_float(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = cli("--json", "validate", "--pair", "cpu:fp", "--pair", "customcpu:int", "--pair", "aie:int",
                 "--limit", "2", "--output", str(page))  # fmt: skip
    found = result.json
    assert result.code == 0
    assert [side["name"] for side in found["sides"]] == ["cpu:fp", "customcpu:int", "aie:int"]
    assert [(pair["reference"], pair["target"]) for pair in found["pairs"]] == [
        ("cpu:fp", "customcpu:int"), ("cpu:fp", "aie:int"),
    ]  # fmt: skip
    for pair in found["pairs"]:
        assert pair["passed"] and pair["answers_equal"] == 1 and pair["answers"] == 2
        assert pair["sqnr_db"] > 30 and pair["cosine"] > 0.999 and 0 < pair["max_abs"] < 2
    for side in found["sides"]:
        assert side["latency_ms"]["median"] > 0 and side["memory"]["weights_mb"] > 40
        added = side["memory"]["run_adds_mb"]
        assert added is None or 0 <= added < 250  # the whole process holds far more
    assert found["inputs"]["rows"] == 2 and found["passed"] is True
    assert (found["target"]["requested"], found["precision"], found["swapped"]) == ("aie", "int", 36)
    assert "customcpu:int" in page.read_text("utf-8")


def test_a_missed_limit_is_exit_code_3(cli: Cli) -> None:
    arguments = ("validate", "--pair", "customcpu:int", "--limit", "1", "--min-sqnr", "90")
    result = cli("--json", *arguments)
    assert result.code == 3
    assert result.json["pairs"][0]["passed"] is False and result.json["passed"] is False
    assert "1 of 1 too far from cpu:fp: customcpu:int: sqnr_db" in result.err
    shown = cli(*arguments)
    assert shown.code == 3 and "FAIL" in shown.out and "customcpu:int" in shown.out


def test_a_file_of_another_machine(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "box.safetensors"
    saved = cli("--json", "validate", "--pair", "customcpu:fp", "--limit", "2", "--save", str(file))
    assert saved.code == 0 and file.exists()
    found = cli("--json", "validate", "--reference", str(file), "--pair", "customcpu:fp", "--limit", "2")
    assert found.code == 0
    assert found.json["pairs"][0]["reference"] == "customcpu:fp (box.safetensors)"
    assert found.json["pairs"][0]["max_abs"] == 0 and found.json["pairs"][0]["sqnr_db"] is None
    assert found.json["reference"]["model"] == "minilm-squad" and found.json["reference"]["reason"] is None
    assert [side["name"] for side in found.json["sides"]] == ["customcpu:fp (box.safetensors)", "customcpu:fp"]
    other = cli("validate", "--reference", str(file), "--pair", "customcpu:fp", "--limit", "3")
    other.fails_in_one_line(2, "rows 2 there, 3 here", "Give both the same")


def test_a_file_of_another_model_is_said_to_be_one(cli: Cli, tmp_path: Path) -> None:
    """As near as it may be: it passed, and nothing said of what the outputs were."""
    folders, file = [str(tiny_folder(tmp_path / name, "encode")) for name in ("one", "two")], tmp_path / "box.ref"
    asked = ("validate", "--task", "encode", "--pair", "cpu:fp", "--max-length", "200", "--limit", "1")
    assert cli("--model", folders[0], *asked, "--save", str(file)).code == 0
    shown, page = cli("--model", folders[1], *asked, "--reference", str(file)), tmp_path / "page.html"
    assert shown.code == 0 and f"is of the model {folders[0]}, all else of {folders[1]}" in shown.out
    told = cli("--json", "--model", folders[1], *asked, "--reference", str(file), "--output", str(page)).json
    assert (told["model"], told["reference"]["model"]) == (folders[1], folders[0])
    assert told["reference"]["reason"] in page.read_text("utf-8")


def test_the_reference_alone_can_be_saved(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "float.safetensors"
    result = cli(
        "validate", "--reference", "customcpu:fp", "--pair", "customcpu:fp", "--limit", "1", "--save", str(file)
    )
    (tmp_path / "plain").touch()
    assert result.code == 0 and file.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("task", TASKS)
def test_every_task(cli: Cli, tmp_path: Path, task: str) -> None:
    folder = tiny_folder(tmp_path / "model", task)
    found = cli("--json", "--model", str(folder), "validate", "--task", task, "--pair", "customcpu:fp",
                "--pair", "cpu:bf16", "--min-sqnr", "20", "--min-equal", "0", "--max-length", "200")  # fmt: skip
    assert found.code == 0, found.err
    for pair in found.json["pairs"]:
        assert pair["passed"] and (pair["answers"] > 0) is (task != "encode")
    exact, rounded = found.json["pairs"]
    assert exact["max_abs"] == 0 or exact["sqnr_db"] > 80
    assert 20 < rounded["sqnr_db"] < 80
    assert found.json["inputs"]["task"] == task


def test_texts_of_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One line.\n\nAnother line.\nA third.\n")
    found = cli("--json", "validate", "--task", "encode", "--pair", "customcpu:int", "--limit", "2", "--data",
                str(tmp_path / "texts.txt"))  # fmt: skip
    assert found.code == 0 and found.json["inputs"]["rows"] == 2
    assert found.json["pairs"][0]["answers_equal"] is None


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (("--pair", "tpu:fp"), 2, "'tpu:fp' is no side"),
        (("--pair", "cpu:int4"), 2, "unknown precision"),
        (("--pair", "hpu:int"), 2, "give --precision fp8"),
        (("--pair", "onnx:bf16"), 2, "onnx is written at precision fp or int, not bf16"),
        (("--pair", "onnx@nowhere:int"), 1, "this onnxruntime has no provider nowhere; it has"),
        (("--pair", "cpu@xpu:bf16"), 1, "device xpu is not here"),
        (("--reference", "gone.safetensors", "--pair", "cpu:int"), 2, "no file at gone.safetensors"),
        ((), 2, "nothing to compare cpu:fp with"),
        (("--task", "encode", "--pair", "cpu:int", "--stride", "5"), 2, "--stride is for the windows of --task ask"),
        (("--pair", "cpu:int", "--max-length", "9999"), 1, "at most 512 tokens"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be(cli: Cli, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = cli("validate", *arguments)
    assert result.code == code and said in result.err and not result.out
    assert "Traceback" not in result.err


def test_strict_holds_for_every_side(cli: Cli) -> None:
    cli("--strict", "validate", "--pair", "aie:int").fails_in_one_line(4, "aie")


@pytest.mark.parametrize("task", TASKS)
def test_onnx_runtime_is_a_side(cli: Cli, tmp_path: Path, task: str) -> None:
    folder = tiny_folder(tmp_path / "model", task)
    found = cli("--json", "--model", str(folder), "validate", "--task", task, "--reference", "cpu:int", "--pair",
                "onnx:int", "--pair", "onnx@cpu:fp", "--max-length", "200", "--limit", "3", "--min-sqnr", "5",
                "--min-equal", "0", "--min-cosine", "0")  # fmt: skip
    assert found.code == 0, found.err
    same, other = found.json["pairs"]
    assert same["max_abs"] == 0 or same["sqnr_db"] > 35  # the file has cpu's integers, but for ties in rounding
    assert same["target"] == "onnx:int"
    assert 5 < other["sqnr_db"] < 80 and other["target"] == "onnx@cpu:fp"
    for side, swapped in zip(found.json["sides"][1:], (True, False), strict=True):
        target = side["target"]
        assert (target["requested"], target["executed"], target["native"]) == ("onnx", "CPUExecutionProvider", True)
        assert target["isa"].startswith("onnxruntime ") and target["reason"] is None
        assert side["latency_ms"]["median"] > 0 and side["memory"]["weights_mb"] > 0
        assert (side["swapped"] > 0) is swapped


def test_what_a_provider_leaves_to_the_cpu_is_said() -> None:
    opened = Opened(None, (), (), {}, ("CUDAExecutionProvider",), {"CUDAExecutionProvider": 7, CPU: 3})
    told = ran(OnnxModel(opened, Inputs((), (), None), "CUDAExecutionProvider"))
    assert (told["executed"], told["device"]) == ("CUDAExecutionProvider", "CUDA")
    assert told["reason"] == "3 of 10 nodes run on CPUExecutionProvider"


def test_strict_refuses_a_file_that_the_provider_leaves_to_the_cpu(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, provider: str, threads: int | None, strict: bool) -> None:
        raise TargetUnavailable(f"{provider} can't open it, strict {strict}")

    monkeypatch.setattr("commands.onnx_side.open_session", refused)
    asked = ("validate", "--task", "encode", "--limit", "1", "--pair", "onnx:fp")
    model = ("--model", str(tiny_folder(tmp_path / "model", "encode")))
    strict, plain = cli("--strict", *model, *asked), cli(*model, *asked)
    assert strict.code == 4 and "strict True; leave out --strict" in strict.err
    assert plain.code == 1 and "strict False" in plain.err
