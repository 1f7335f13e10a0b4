"""`export` as a user calls it: the file, the report, the gate, and what can't be done."""

import importlib.util
from pathlib import Path

import pytest

from commands.export import share_of
from tests.cli import Cli
from tests.commands.folders import tiny_folder as tiny_for
from tests.models.samples import tiny_folder
from toolkit.export import check
from toolkit.onnx_session import open_session

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
INT = ("--precision", "int")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("models") / "tiny"))


def test_a_static_model_as_onnx(cli: Cli, tiny: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "tiny.onnx"
    static = ("--scheme", "static", "--calibration", SAMPLE, "--samples", "4")
    asked = ("export", "--format", "onnx", "--output", str(output), "--data", SAMPLE, "--limit", "5")
    made = cli("--json", "--model", tiny, *INT, *static, *asked, "--min-equal", "0")
    assert made.code == 0, made.err
    found = made.json
    assert (found["format"], found["opset"], found["quantized"], found["swapped"]) == ("onnx", 18, 6, 6)
    assert found["target"]["requested"] == "cpu" and found["scheme"] == "static" and found["widened"] == []
    assert found["files"] == {"tiny.onnx": output.stat().st_size} and list(output.parent.iterdir()) == [output]
    assert found["check"]["provider"] == "CPUExecutionProvider" and found["check"]["questions"] == 5
    assert found["check"]["passed"] and sum(found["check"]["nodes"].values()) > 50
    assert found["operators"]["QuantizeLinear"] == 4
    assert open_session(output).opened.metadata["opswap.model"] == "tiny"


def test_pt2_in_words(cli: Cli, tiny: str, tmp_path: Path) -> None:
    asked = ("export", "--format", "pt2", "--output", str(tmp_path / "tiny.pt2"))
    made = cli("--model", tiny, *INT, *asked, "--min-equal", "97")
    assert made.code == 0, made.err
    assert "pt2, 6 linears in 8 bits" in made.out and "checked against cpu in torch" in made.out


def test_what_passes_is_in_percent_as_in_validate_or_a_share() -> None:
    assert [share_of(given) for given in (97.0, 100.0, 0.97, 1.0, 0.0, None)] == [0.97, 1.0, 0.97, 1.0, 0.0, None]


def test_a_file_that_disagrees_is_not_written(cli: Cli, tiny: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(check, "LEAST_DB", 1000.0)
    made = cli("--model", tiny, *INT, "export", "--format", "pt2", "--output", str(tmp_path / "tiny.pt2"))
    assert made.code == 3 and "was not written: it disagrees with cpu: SQNR" in made.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("task", ["classify", "tag", "generate", "encode"])
def test_every_task_is_checked_by_its_answers(cli: Cli, tmp_path: Path, task: str, kind: str) -> None:
    folder, output = tiny_for(tmp_path / "model", task), tmp_path / f"model.{kind}"
    made = cli("--json", "--model", str(folder), *INT, "export", "--format", kind, "--output", str(output), "--task",
               task)  # fmt: skip
    assert made.code == 0, made.err
    check = made.json["check"]
    assert check["passed"] and check["answers_equal"] == check["questions"] and output.exists()
    assert {"encode": 0, "classify": 6}.get(task, check["questions"]) == check["questions"]  # sentences; else tokens
    assert (check["questions"] > 50) is (task in ("tag", "generate"))


REFUSED = {
    "another target": (("--target", "aie", *INT), (), 2, "leave --target out"),
    "a fusion left out": ((*INT, "--without", "gelu"), (), 2, "a file has no fusions: leave --without out"),
    "another precision": (("--precision", "bf16"), (), 2, "onnx is written at precision fp or int, not bf16"),
    "no data": ((), ("--limit", "5"), 2, "--limit shortens --data"),
    "no such file": ((), ("--data", "none.json"), 1, "no file at none.json"),
    "no such provider": ((), ("--provider", "cuda"), 1, "has no provider cuda; it has"),
    "a provider for pt2": ((), ("--format", "pt2", "--provider", "cpu"), 2, "--provider is for an ONNX file, not pt2"),
    "a check left out": ((), ("--no-check", "--min-equal", "1"), 2, "--min-equal is for the check"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_said_before_anything_is_loaded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    before, after, code, said = REFUSED[case]
    for loads in ("load_any", "load_float"):
        monkeypatch.setattr(f"commands.graph.{loads}", lambda *given: pytest.fail("the model was loaded"))
    made = cli(*before, "export", "--format", "onnx", "--output", str(tmp_path / "x.onnx"), *after)
    assert made.code == code and said in made.err and list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    asked = ("export", "--format", "onnx", "--output", str(tmp_path / "x.onnx"))
    cli(*asked).fails_in_one_line(1, "ONNX is written with onnxscript, which is not installed", "pip install")


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_linear_of_16_bits_is_one_linear(cli: Cli, tiny: str, tmp_path: Path, kind: str) -> None:
    """However many terms it has: in what quantize and export say too"""
    recipe, saved = tmp_path / "recipe.yaml", str(tmp_path / "saved")
    recipe.write_text("precision: int\nactivation_bits: 16\nweight_bits: 16\n")
    made = cli("--json", "--model", tiny, "--recipe", str(recipe), "quantize", "--output", saved)
    assert made.code == 0 and (made.json["layers"], made.json["swapped"]) == (6, 6), made.err
    for model, *how in ((tiny, "--recipe", str(recipe)), (saved,)):
        output = str(tmp_path / f"made.{kind}")
        found = cli("--json", "--model", model, *how, "export", "--format", kind, "--output", output)
        assert found.code == 0 and (found.json["quantized"], found.json["swapped"]) == (6, 6), found.err
