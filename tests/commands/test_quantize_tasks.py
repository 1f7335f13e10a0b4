"""`quantize --task`: the folder under the command that it is for, and under others."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from models import load
from models.tasks import ENCODE
from tests.checks import assert_sqnr
from tests.cli import Cli
from tests.commands.folders import BERT, tiny_folder
from tests.models.samples import tokenizer
from toolkit import Recipe, transform

TEXT = ("--text", "Mara Lindqvist repaired the lamp of Hallö.", "--text", "The captain learned of it in spring.")
MORE = {"generate": ("--new-tokens", "6")}
TASKS = ("classify", "encode", "generate", "tag")


def quantized(cli: Cli, tmp_path: Path, task: str) -> tuple[str, str]:
    """→ a tiny float model for `task`, and what `quantize` makes of it"""
    model, output = str(tiny_folder(tmp_path / "model", task)), str(tmp_path / "saved")
    made = cli("--json", "--model", model, "quantize", "--task", task, "--output", output)
    assert made.code == 0, made.err
    assert made.json["task"] == task and made.json["layers"] == made.json["swapped"] > 0
    assert (made.json["only_opswap"] is not None) is (task == "generate")  # GPT-2's Conv1D holds [K, N]
    return model, output


@pytest.mark.parametrize("task", TASKS)
def test_its_command_says_what_it_says_of_the_float_model_in_8_bits(cli: Cli, tmp_path: Path, task: str) -> None:
    model, output = quantized(cli, tmp_path, task)
    for target in ("cpu", "customcpu"):
        asked = (task, *TEXT, *MORE.get(task, ()))
        direct = cli("--json", "--model", model, "--target", target, "--precision", "int", *asked).json
        loaded = cli("--json", "--model", output, "--target", target, *asked)
        assert loaded.code == 0, loaded.err
        assert loaded.json["texts"] == direct["texts"] and loaded.json["kept"] == direct["kept"]
        assert (loaded.json["precision"], loaded.json["swapped"]) == ("int", direct["swapped"])


def test_transformers_reads_an_encoder_without_a_pooler(cli: Cli, tmp_path: Path) -> None:
    """Its class has one, of which the folder holds nothing"""
    model, output = str(tiny_folder(tmp_path / "model", "ask")), str(tmp_path / "saved")
    made = cli("--json", "--model", model, "quantize", "--task", "encode", "--output", output)
    assert made.code == 0 and made.json["only_opswap"] is None, made.err
    theirs = AutoModel.from_pretrained(output).eval()
    given = AutoTokenizer.from_pretrained(output)("Mara Lindqvist repaired the lamp.", return_tensors="pt")
    ours = transform(load(model, task=ENCODE)[0], Recipe("int"), "cpu")
    with torch.no_grad():
        assert_sqnr(theirs(**given).last_hidden_state, ours(**given).last_hidden_state, 30.0)


def test_sizes_that_depend_on_values_are_kept(cli: Cli, tmp_path: Path) -> None:
    """X-MOD's adapters take the rows of each language, which capture knows no number of"""
    model, output, words = str(tmp_path / "model"), str(tmp_path / "saved"), tokenizer("sentencepiece")
    languages = {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"}
    sizes = {**BERT, "vocab_size": len(words), "max_position_embeddings": 130, "pad_token_id": 1, **languages}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.for_model("xmod", **sizes)).save_pretrained(model)
    words.save_pretrained(model)
    made = cli("--model", model, "quantize", "--task", "encode", "--output", output)
    assert made.code == 0, made.err
    for target in ("cpu", "customcpu"):
        direct = cli("--json", "--model", model, "--target", target, "--precision", "int", "encode", *TEXT).json
        loaded = cli("--json", "--model", output, "--target", target, "encode", *TEXT)
        assert loaded.code == 0, loaded.err
        assert loaded.json["texts"] == direct["texts"]


def test_validate_and_export_take_it_too(cli: Cli, tmp_path: Path) -> None:
    _, output = quantized(cli, tmp_path, "classify")
    told = cli("--json", "--model", output, "validate", "--task", "classify", "--pair", "customcpu:int", "--min-sqnr",
               "0", "--min-equal", "0", "--min-cosine", "-1")  # fmt: skip
    assert told.code == 0, told.err
    file = str(tmp_path / "made.pt2")
    made = cli("--json", "--model", output, "export", "--task", "classify", "--format", "pt2", "--output", file)
    assert made.code == 0 and made.json["quantized"] == 13, made.err


def test_a_text_ends_where_the_float_models_does(cli: Cli, tmp_path: Path) -> None:
    """By the end token of generation_config.json, which config.json does not know."""
    model = tiny_folder(tmp_path / "model", "generate", eos_token_id=None)
    ask = ("generate", "--text", "The lamp", "--new-tokens", "3")
    plain = cli("--json", "--model", str(model), "--precision", "int", *ask).json["texts"][0]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(10**5))}))
    ended = cli("--json", "--model", str(model), "--precision", "int", *ask).json["texts"][0]
    assert (plain["ended"], ended["ended"]) == (False, True)
    assert cli("--model", str(model), "quantize", "--task", "generate", "--output", str(tmp_path / "saved")).code == 0
    assert cli("--json", "--model", str(tmp_path / "saved"), *ask).json["texts"][0] == ended


@pytest.mark.parametrize(
    ("made", "asked"),
    [("classify", ("ask", "--question", "who?")), ("tag", ("classify", *TEXT)), ("encode", ("tag", *TEXT)),
     ("ask", ("encode", *TEXT)), ("encode", ("generate", *TEXT))],
    ids=lambda given: given if isinstance(given, str) else given[0],
)  # fmt: skip
def test_another_command_says_what_it_is_for(cli: Cli, tmp_path: Path, made: str, asked: tuple[str, ...]) -> None:
    _, output = quantized(cli, tmp_path, made)
    refused = cli("--model", output, *asked)
    refused.fails_in_one_line(1, f"is quantized for `{made}`, not for `{asked[0]}`: ", f"`quantize --task {asked[0]}`")


def test_what_the_task_cannot_have_is_said(cli: Cli, tmp_path: Path) -> None:
    model = str(tiny_folder(tmp_path / "model", "classify"))
    quantize = ("--model", model, "quantize", "--output", str(tmp_path / "saved"))
    cli(*quantize).fails_in_one_line(1, "fine-tuned for question answering")
    for command in (("quantize", "--task", "tag", "--output", "never"), ("tag", *TEXT)):
        refused = cli("--model", model, "--precision", "int", "--autotune", "none.json", *command)
        assert refused.code == 2 and "--autotune judges answers to questions, which tag gives none of" in refused.err


@pytest.mark.parametrize("task", ["generate", "classify"])
def test_a_quantized_folder_is_not_quantized_again(cli: Cli, tmp_path: Path, task: str) -> None:
    """Where only OpSwap reads it too, which holds no file of weights that transformers knows."""
    _, output = quantized(cli, tmp_path, task)
    told = cli("--model", output, "quantize", "--task", task, "--output", str(tmp_path / "again"))
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "is quantized, float weights are wanted here" in told.err
    assert not (tmp_path / "again").exists()


def test_a_graph_of_our_own_is_for_its_task_alone(cli: Cli, tmp_path: Path) -> None:
    _, output = quantized(cli, tmp_path, "generate")
    said = f"{output} is quantized for `generate`, not for `ask`: give the float model"
    for command in ("bench", "--target aie --precision int plan"):
        cli("--model", output, *command.split()).fails_in_one_line(1, said)
