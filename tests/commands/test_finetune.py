"""`finetune` as a user calls it, on a tiny base and a few questions."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import load
from models.finetune.checkpoint import FILE
from tests.cli import Cli
from tests.models.runs import averaging_every
from tests.models.samples import SQUAD, tiny_bert, tiny_folder

DATA = str(SQUAD / "sample-v1.1.json.gz")
FEW = ("--epochs", "2", "--limit", "14", "--batch-size", "5", "--max-length", "100", "--stride", "16", "--no-bf16")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("base")))


def test_the_mean_of_the_weights_is_written(cli: Cli, base: str, tmp_path: Path) -> None:
    files = ("--base", base, "--train", DATA, "--eval-data", DATA, "--eval-limit", "6", "--output", str(tmp_path))
    with averaging_every(2):
        done = cli("--json", "finetune", *files, *FEW, "--average", "0.6", "--learning-rate", "0.01")
    assert done.code == 0, done.err
    report = done.json
    assert (report["average"], report["dropout"], report["batch_size"]) == (0.6, 0.1, 5)
    assert [(epoch["epoch"], epoch["total"]) for epoch in report["history"]] == [(1, 6), (2, 6)]
    state, written = load_file(tmp_path / FILE), load_file(tmp_path / "model.safetensors")
    for name, value in written.items():
        assert torch.equal(value, state[f"mean.{name}"].half())
    assert not torch.equal(written["qa_outputs.weight"], state["model.qa_outputs.weight"].half())


def test_windows_are_as_long_as_the_base_reads(cli: Cli, tmp_path: Path) -> None:
    short = str(tiny_folder(tmp_path / "short", positions=200))
    few = ("--epochs", "1", "--limit", "2", "--batch-size", "2", "--no-bf16")
    done = cli("--json", "finetune", "--base", short, "--train", DATA, "--output", str(tmp_path / "out"), *few)
    assert done.code == 0, done.err
    assert (done.json["max_length"], done.json["stride"]) == (200, 66)


def test_what_is_written_names_no_implementation_of_ours(cli: Cli, base: str, tmp_path: Path) -> None:
    assert cli("finetune", "--base", base, "--train", DATA, "--output", str(tmp_path), *FEW, "--limit", "1").code == 0
    assert not [key for key in json.loads((tmp_path / "config.json").read_text()) if "attn" in key]
    assert load(str(tmp_path))[0].config._attn_implementation == "sdpa"


def test_the_tokenizer_that_is_written_cuts_and_pads_nothing(cli: Cli, base: str, tmp_path: Path) -> None:
    assert cli("finetune", "--base", base, "--train", DATA, "--output", str(tmp_path), *FEW, "--limit", "1").code == 0
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert written["truncation"] is None and written["padding"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--train", "none.json"), 1, "no file"),
        (("--train", DATA, "--base", "./none"), 1, "no model folder"),
        (("--train", DATA, "--max-length", "80"), 1, "windows of 80 tokens"),
        (("--train", DATA, "--output", __file__), 1, "--output"),
        (("--train", DATA, "--output", f"{__file__}/below"), 1, "--output"),
    ],
    ids=["no data", "no base", "short windows", "output a file", "output in a file"],
)
def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, cli: Cli, base: str, tmp_path: Path
) -> None:
    files = ("--base", base, "--output", str(tmp_path / "out"))
    cli("finetune", *files, *FEW, *arguments).fails_in_one_line(code, said)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("--target", "aie"), ()),
        (("--precision", "int"), ()),
        (("--scheme", "dynamic"), ()),
        (("--model", "minilm-squad"), ()),
        (("--without", "attention"), ()),
        (("--recipe", "recipe.yaml"), ()),
        (("--calibration", "x.json"), ()),
        (("--quantizer", "torchao"), ()),
        (("--strict",), ()),
        ((), ("--eval-limit", "-1")),
        ((), ("--eval-limit", "5")),
        ((), ("--average", "1.5")),
        ((), ("--dropout", "1")),
        ((), ("--distill",)),
        ((), ("--activations", "symmetric")),
        ((), ("--temperature", "2", "--qat")),
        ((), ("--distill-weight", "0.9", "--qat")),
        ((), ("--dropout", "0.1", "--qat")),
        ((), ("--max-steps", "0")),
    ],
    ids=lambda arguments: " ".join(arguments) or "-",
)
def test_wrong_usage(before: tuple[str, ...], after: tuple[str, ...], cli: Cli, base: str, tmp_path: Path) -> None:
    result = cli(*before, "finetune", "--base", base, "--train", DATA, "--output", str(tmp_path / "out"), *after)
    assert result.code == 2 and (before or after)[0] in result.err
    assert not (tmp_path / "out").exists()


def test_a_run_from_another_base_is_not_resumed(cli: Cli, base: str, tmp_path: Path) -> None:
    few = ("--train", DATA, "--output", str(tmp_path / "out"), *FEW, "--limit", "1")
    assert cli("finetune", "--base", base, *few).code == 0
    moved = str(shutil.copytree(base, tmp_path / "moved"))
    assert cli("finetune", "--base", moved, *few).code == 0  # its weights are what counts, not its name
    tiny_bert(seed=1).save_pretrained(moved)
    cli("finetune", "--base", moved, *few).fails_in_one_line(1, "is of a run with base=", "--no-resume")
    assert cli("finetune", "--base", moved, *few, "--no-resume").code == 0
