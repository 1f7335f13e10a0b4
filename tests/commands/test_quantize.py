"""`quantize`, and the folder that it writes under every other command."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.models.samples import tiny_folder

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path / "tiny"))


def test_a_saved_model_answers_as_the_one_that_it_came_from(cli: Cli, tiny: str, tmp_path: Path) -> None:
    output = tmp_path / "saved"
    made = cli("--json", "--model", tiny, "quantize", "--output", str(output))
    assert made.code == 0, made.err
    assert made.json["layers"] == made.json["swapped"] == 6 and made.json["only_opswap"] is None
    (kept,) = made.json["kept"]
    assert kept["name"] == "qa_outputs" and "recipe keeps" in kept["why"]
    assert (made.json["precision"], made.json["scheme"], made.json["model"]) == ("int", "dynamic", tiny)
    target = made.json["target"]
    assert target.keys() == {"requested", "executed", "native", "device", "isa", "reason"}
    assert (target["requested"], target["executed"]) == ("cpu", None)  # it is saved, nothing ran
    assert target == cli("--json", "doctor").json["target"]
    assert made.json["bytes"] == sum(path.stat().st_size for path in output.iterdir())
    arguments = ("eval", "--data", SAMPLE, "--limit", "6")
    for target in ("cpu", "customcpu"):
        direct = cli("--json", "--model", tiny, "--target", target, "--precision", "int", *arguments).json
        loaded = cli("--json", "--model", str(output), "--target", target, *arguments)
        assert loaded.code == 0, loaded.err
        assert loaded.json["answers"] == direct["answers"] and loaded.json["precision"] == "int"
    bench = ("bench", "--sequence-length", "16", "--iterations", "2")
    assert cli("--json", "--model", str(output), "--target", "customcpu", *bench).json["ours"][0]["sqnr_db"] > 15


def test_what_contradicts_a_saved_model_is_said(cli: Cli, tiny: str, tmp_path: Path) -> None:
    output = str(tmp_path / "saved")
    assert cli("--model", tiny, "quantize", "--output", output).code == 0
    ask = ("ask", "--question", "who?")
    refused = cli("--model", output, "--scheme", "static", *ask)
    assert refused.code == 2 and "was quantized with --scheme dynamic, not static" in refused.err
    for name, value in (("quantizer", "inc"), ("calibration", SAMPLE), ("recipe", "none.yaml"), ("ranges", "mse")):
        given = cli("--model", output, f"--{name}", value, *ask)
        assert given.code == 2 and f"leave --{name} out" in given.err, given.err
    elsewhere = cli("--model", output, "--target", "customcpu", "--device", "cpu", *ask)
    assert elsewhere.code == 2 and "--device is where --target cpu computes" in elsewhere.err
    again = cli("--model", output, "quantize", "--output", str(tmp_path / "again"))
    again.fails_in_one_line(1, "is quantized", "float weights")


def test_quantize_overwrites_nothing_else(cli: Cli, tiny: str) -> None:
    cli("--model", tiny, "quantize", "--output", tiny).fails_in_one_line(1, "of no checkpoint", "another folder")
    assert cli("--model", tiny, "--precision", "bf16", "quantize", "--output", "never").code == 2
    assert not Path("never").exists()


def test_a_place_that_cannot_be_written_is_said_at_once(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "result", Path("/proc/x/y"), tmp_path / ("long" * 80)):
        # that no model of this name is there would be said first if it were looked for before
        told = cli("--model", str(tmp_path / "no model"), "quantize", "--output", str(place))
        told.fails_in_one_line(1, str(place.parent), "can't be written", "give another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_target_that_has_no_int(cli: Cli, tiny: str, tmp_path: Path) -> None:
    asked = ("quantize", "--output", str(tmp_path / "saved"))
    refused = cli("--model", tiny, "--target", "hpu", *asked)
    refused.fails_in_one_line(2, "hpu has no precision 'int'", "leave --target out", "reads its weights as floats")
    cli("--model", tiny, "--target", "gpu", *asked).fails_in_one_line(2, "unknown target 'gpu'")


def test_a_scheme_that_a_target_has_not(cli: Cli, tiny: str, tmp_path: Path) -> None:
    output = str(tmp_path / "saved")
    assert cli("--model", tiny, "--scheme", "weight", "quantize", "--output", output).code == 0
    refused = cli("--model", output, "--target", "aie", "ask", "--question", "who?")
    assert refused.code == 2 and "has the scheme weight, which target aie has not: quantize again" in refused.err
