"""`sensitivity` on a few real questions: what it prints and writes, that its recipe runs, and its exit codes."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from commands.sample import places_of
from models.question_answering.examples import read_examples
from toolkit import Recipe
from toolkit.recipe_file import parse

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
EMBEDDED = Path(__file__).parents[2] / "models" / "minilm-squad"
INT = ("--target", "customcpu", "--threads", "1")
FEW = ("sensitivity", "--data", SAMPLE, "--limit", "6", "--each", "0")


class Page(HTMLParser):
    """What the page shows, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.kept, self.addresses = 0, 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.rows += tag == "tr"
        self.kept += ("class", "kept") in attrs
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of two layers with random weights, for the embedded tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / file, folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 52}
    torch.manual_seed(0)
    BertForQuestionAnswering(BertConfig(**sizes, initializer_range=0.1)).save_pretrained(folder)
    return ("--model", str(folder))


def test_a_goal_that_is_reached(cli, tmp_path, model) -> None:
    path = tmp_path / "deep" / "found"
    result = cli(*INT, *model, "--json", *FEW, "--max-drop", "100", "--output", str(path))
    assert result.code == 0, result.err
    found = result.json
    assert found["repair"]["reached"] is True and found["repair"]["kept"] == []
    assert 0.99 < found["repair"]["in_int"] < 1 and len(found["repair"]["tried"]) == 1
    assert len(found["layers"]) == found["swapped"] == 12 and found["precision"] == "int"
    assert found["logits_db"] < min(layer["logits_db"] for layer in found["layers"])
    assert all(layer["changed"] is None and layer["precision"] == "int" for layer in found["layers"])
    assert json.loads(path.with_name("found.json").read_text("utf-8")) == found
    recipe = parse(path.with_name("found.yaml").read_text("utf-8"), "found.yaml")
    assert recipe == Recipe("int")


def test_the_best_is_saved_where_the_goal_is_out_of_reach(cli, tmp_path, model) -> None:
    """An F1 that is 100 points above float's is out of reach."""
    path = tmp_path / "found"
    result = cli(*INT, *model, *FEW, "--max-drop", "-100", "--keep-as", "fp", "--output", str(path))
    assert result.code == 3 and "the goal was not reached" in result.err
    assert (
        "bert.encoder.layer.*" in result.out
        and "1.attention.output.dense" in result.out
        and "not reached, this is the best" in result.out
    )
    found = json.loads(path.with_name("found.json").read_text("utf-8"))
    repair = found["repair"]
    assert [one["kept"] for one in repair["tried"]] == [0, 12, 3, 6, 9]
    assert repair["f1"] == max(one["f1"] for one in repair["tried"]) and not repair["reached"]
    text = path.with_name("found.yaml").read_text("utf-8")
    assert text.split(" on customcpu: ")[1].startswith("6 questions")
    assert "# goal: F1 drop of at most -100.0; not" in text
    assert [rule.match for rule in parse(text, "found.yaml").rules] == repair["kept"]
    page = Page(path.with_name("found.html").read_text("utf-8"))
    assert (page.rows, page.kept) == (13, len(repair["kept"]))
    assert len(page.addresses) == 1 and page.addresses[0].startswith("data:image/png;base64,")
    assert path.with_name("found.png").read_bytes().startswith(b"\x89PNG")


def test_answers_that_were_saved_are_compared_with(cli, tmp_path, model) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({example.id: "no such answer" for example in read_examples(SAMPLE)}))
    result = cli(*INT, *model, "--json", *FEW, "--max-drop", "100", "--reference", str(path))
    repair = result.json["repair"]
    assert (repair["changed"], repair["equal"], result.json["reference"]["f1"]) == (6, 0.0, 0.0)


def test_single_linears_on_questions(cli, tmp_path, model) -> None:
    """Only two linears are left to look at."""
    recipe = tmp_path / "two.yaml"
    recipe.write_text('rules: [{match: "*.[01].output.dense", precision: int}, {match: "*", precision: fp}]')
    arguments = ("--recipe", str(recipe), "--json", "sensitivity", "--data", SAMPLE, "--limit", "4", "--each", "2")
    found = cli(*INT, *model, *arguments, "--max-drop", "100").json
    assert [layer["name"][-14:] for layer in found["layers"]] == ["0.output.dense", "1.output.dense"]
    assert all(0 <= layer["changed"] <= 2 and layer["spared_drop"] is not None for layer in found["layers"])
    assert found["reference"]["questions"] == 4
    text = cli(*INT, *model, *(part for part in arguments if part != "--json"), "--max-drop", "100").out
    assert "spared: changed, F1" in text and "…" not in text, "a table in a file is whole"


@pytest.mark.parametrize(
    "options, arguments, code, said",
    [
        (("--precision", "bf16"), FEW, 2, "the precision is 'bf16'"),
        ((), (*FEW, "--reference", SAMPLE), 1, "has no answer to 6 of 6 questions"),
        ((), ("sensitivity", "--data", "none.json"), 1, "no file at none.json"),
    ],
    ids=["precision", "reference", "data"],
)
def test_refusals(cli, options, arguments, code, said) -> None:
    cli(*options, *arguments).fails_in_one_line(code, said)


def test_without_matplotlib_it_says_so_at_once(cli, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    cli(*FEW, "--output", str(tmp_path / "x")).fails_in_one_line(1, "a plot needs matplotlib, which is not installed")


def test_places_are_spread_and_all_where_there_are_no_more() -> None:
    assert places_of(10, 3) == [0, 3, 6] and places_of(3, 10) == [0, 1, 2] and places_of(0, 5) == []


def test_a_static_recipe_is_calibrated_once(cli, tmp_path, model) -> None:
    path = tmp_path / "found"
    given = ("--scheme", "static", "--calibration", SAMPLE, "--samples", "8")
    assert "wants data" in cli(*INT, *model, "--scheme", "static", *FEW).err
    result = cli(
        *INT, *model, *given, "--json", *FEW, "--max-drop", "-200", "--keep-as", "int16", "--output", str(path)
    )
    assert result.code == 3, result.err
    assert result.json["scheme"] == "static" and result.json["equalized"]["smooth"] > 0
    recipe = parse(path.with_name("found.yaml").read_text("utf-8"), "found.yaml")
    assert recipe.scheme == "static" and all(rule.weight_bits == 16 for rule in recipe.rules)
    assert result.json["repair"]["in_int"] > 0.99
