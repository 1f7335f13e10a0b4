"""`classify`, `tag` and `generate` on tiny models with random weights, against transformers itself."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    GPT2LMHeadModel,
)

from tests.cli import Cli
from tests.commands.folders import LABELS, tiny_folder

TEXT = "Mara Lindqvist repaired the lamp of Hallö."
OTHER = "The captain, Johan Berg, learned of it only in spring and wrote to her."


def test_classify_is_transformers(cli: Cli, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "classify")
    found = cli("--json", "--model", str(folder), "classify", "--text", TEXT, "--text", OTHER).json
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    for text, one in zip((TEXT, OTHER), found["texts"], strict=True):
        with torch.no_grad():
            scores = model(**words(text, return_tensors="pt")).logits[0].softmax(-1)
        by_label = {candidate["label"]: candidate["score"] for candidate in one["candidates"]}
        assert by_label == pytest.approx(dict(zip(LABELS["classify"], scores.tolist(), strict=True)), rel=1e-4)
        assert one["label"] == max(by_label, key=by_label.__getitem__) and one["kind"] == "one"


def test_classify_pairs(cli: Cli, tmp_path: Path) -> None:
    folder = str(tiny_folder(tmp_path, "classify"))
    found = cli("--json", "--model", folder, "classify", "--text", TEXT, "--second", OTHER, "--top", "1").json
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    given = AutoTokenizer.from_pretrained(folder)(TEXT, OTHER, return_tensors="pt")
    with torch.no_grad():
        scores = model(**given).logits[0].softmax(-1)
    assert found["texts"][0]["score"] == pytest.approx(float(scores.max()), rel=1e-4)
    assert len(found["texts"][0]["candidates"]) == 1
    assert (found["texts"][0]["text"], found["texts"][0]["second"]) == (TEXT, OTHER)
    wrong = cli("--model", folder, "classify", "--text", TEXT, "--text", OTHER, "--second", OTHER)
    assert wrong.code == 2 and "2 texts want as many, got 1" in wrong.err


def test_classify_in_8_bits_reports_as_every_command(cli: Cli, tmp_path: Path) -> None:
    folder = str(tiny_folder(tmp_path, "classify"))
    options = ("--model", folder, "--target", "customcpu", "--precision", "int")
    found = cli("--json", *options, "classify", "--text", TEXT).json
    assert found["swapped"] == 13 and [kept["name"] for kept in found["kept"]] == ["classifier"]
    assert found["fused"]["packing"] == 1
    assert "%" in cli(*options, "classify", "--text", TEXT).out


@pytest.mark.parametrize("task", ["classify", "tag", "encode"])
def test_answers_are_the_same_without_packing(cli: Cli, tmp_path: Path, task: str) -> None:
    options = ("--json", "--model", str(tiny_folder(tmp_path, task)), "--target", "customcpu", "--precision", "int")
    given = (task, "--text", TEXT, "--text", OTHER)
    packed, padded = (cli(*options, *without, *given).json for without in ((), ("--without", "packing")))
    assert packed["fused"]["packing"] == 1 and "packing" not in padded["fused"]
    assert packed["texts"] == padded["texts"]


def test_tag_is_transformers(cli: Cli, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "tag")
    found = cli("--json", "--model", str(folder), "tag", "--text", TEXT, "--text", OTHER).json
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    for text, one in zip((TEXT, OTHER), found["texts"], strict=True):
        given = words(text, return_tensors="pt")
        with torch.no_grad():
            best = model(**given).logits[0].argmax(-1)
        for word in one["words"]:
            assert text[word["start"] : word["end"]] == word["text"]
            token = given.char_to_token(0, word["start"])
            assert word["label"] == LABELS["tag"][int(best[token])]
        for entity in one["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"] and entity["label"] in ("PER", "LOC")
    assert found["texts"][0]["words"][0]["text"] == "Mara"
    assert TEXT in cli("--model", str(folder), "tag", "--text", TEXT, "--words").out


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("gpt2"), "generate")


def oracle(folder: Path, text: str, **how: object) -> str:
    words = AutoTokenizer.from_pretrained(folder)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = words(text, return_tensors="pt")["input_ids"]
    mask = torch.ones_like(ids)
    made = model.generate(ids, attention_mask=mask, max_new_tokens=12, **how)[0, ids.shape[1] :].tolist()  # type: ignore[attr-defined]
    ended = made and made[-1] == model.config.eos_token_id
    return words.decode(made[:-1] if ended else made)


def test_greedy_is_transformers_generate(cli: Cli, language_model: Path) -> None:
    """Two prompts of two lengths in one batch, each as if it were alone"""
    found = cli("--json", "--model", str(language_model), "generate", "--text", TEXT, "--text", OTHER,
                "--new-tokens", "12").json  # fmt: skip
    assert [one["text"] for one in found["texts"]] == [
        oracle(language_model, text, do_sample=False) for text in (TEXT, OTHER)
    ]
    assert found["cache"] is True and found["seed"] is None and found["tokens_per_second"] > 0


def test_sampling_draws_what_transformers_draws(cli: Cli, language_model: Path) -> None:
    options = ("--sample", "--temperature", "0.8", "--top-k", "20", "--top-p", "0.9", "--repetition", "1.3")
    ask = ("--json", "--model", str(language_model), "generate", "--text", TEXT, "--new-tokens", "12", *options)
    found = cli(*ask, "--seed", "7").json["texts"][0]["text"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        how = {"do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3}
        assert found == oracle(language_model, TEXT, **how)
    assert cli(*ask, "--seed", "7").json["texts"][0]["text"] == found
    assert cli(*ask, "--seed", "8").json["texts"][0]["text"] != found


@pytest.mark.parametrize("option", [("--temperature", "2"), ("--top-k", "3"), ("--top-p", "0.5"), ("--seed", "1")])
def test_what_shapes_a_draw_is_refused_where_none_is_made(cli: Cli, option: tuple[str, str]) -> None:
    refused = cli("generate", "--text", TEXT, *option)
    assert refused.code == 2 and f"{option[0]} is for --sample" in refused.err


def test_a_text_does_not_depend_on_its_neighbours(cli: Cli, language_model: Path) -> None:
    ask = ("--json", "--model", str(language_model), "generate", "--new-tokens", "6", "--sample", "--seed", "3")
    alone = cli(*ask, "--text", TEXT).json["texts"][0]["text"]
    assert cli(*ask, "--text", OTHER, "--text", TEXT).json["texts"][1]["text"] == alone


def test_generate_has_the_tied_head_in_8_bits(cli: Cli, language_model: Path) -> None:
    options = ("--model", str(language_model), "--target", "customcpu", "--precision", "int")
    found = cli("--json", *options, "generate", "--text", TEXT, "--new-tokens", "3").json
    assert found["swapped"] == 9 and not found["kept"]
    printed = cli(*options, "generate", "--text", TEXT, "--new-tokens", "3")
    assert printed.out.startswith(TEXT) and "whole text again" not in printed.err


def test_prompts_that_do_not_fit(cli: Cli, language_model: Path) -> None:
    options = ("--model", str(language_model), "generate", "--text", TEXT)
    result = cli(*options, "--new-tokens", "250")
    assert result.code == 1 and "more than the model's 256 positions" in result.err


def test_a_gpt_2_beside_berts_tokenizer(cli: Cli, tmp_path: Path) -> None:
    """As Chinese ones have it: the types that it makes would be tokens to GPT-2."""
    folder = tiny_folder(tmp_path / "model", "generate", "wordpiece")
    words = AutoTokenizer.from_pretrained(folder)
    assert "token_type_ids" in words(TEXT)
    found = cli("--json", "--model", str(folder), "encode", "--text", TEXT).json["texts"][0]
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=words(TEXT, return_tensors="pt")["input_ids"]).last_hidden_state[0]
    assert found["norm"] == pytest.approx(float(states.norm(dim=1).mean()), rel=1e-4)
    lines = tmp_path / "lines.txt"
    lines.write_text(f"{TEXT}\n{OTHER}\n")
    static = ("--model", str(folder), "--precision", "int", "--scheme", "static", "--calibration", str(lines))
    made = cli("--json", *static, "quantize", "--task", "generate", "--output", str(tmp_path / "saved"))
    assert made.code == 0 and made.json["calibration"]["samples"] == 2, made.err
    told = cli("--model", str(tmp_path / "saved"), "generate", "--text", TEXT, "--new-tokens", "3")
    assert told.code == 0 and told.out.startswith(TEXT), told.err


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece", "byte-level with spaces"])
def test_a_text_goes_on_as_its_tokens_say(cli: Cli, tmp_path: Path, kind: str) -> None:
    """With the space before a new word, which some tokenizers leave out of the first word that they decode"""
    folder = tiny_folder(tmp_path, "generate", kind)
    words = AutoTokenizer.from_pretrained(folder)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = words(TEXT, return_tensors="pt")["input_ids"]
    for count in range(1, 6):
        ask = ("--json", "--model", str(folder), "generate", "--text", TEXT, "--new-tokens", str(count))
        found = cli(*ask).json["texts"][0]
        how = {"attention_mask": torch.ones_like(ids), "max_new_tokens": found["tokens"], "do_sample": False}
        made = model.generate(ids, **how)  # type: ignore[attr-defined]
        assert words.decode(ids[0]) + found["text"] == words.decode(made[0]), count


@pytest.mark.parametrize(
    "command, said",
    [("classify", "classify sequences"), ("tag", "classify tokens"), ("generate", "trained to generate text")],
)
def test_the_embedded_model_has_no_such_head(cli: Cli, command: str, said: str) -> None:
    result = cli(command, "--text", TEXT)
    assert result.code == 1 and not result.out and said in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    "given, said",
    [
        (("classify", "--top", "2"), "--top is for --json, which is not given"),
        (("--json", "tag", "--words"), "--words is for what is printed; the JSON has them anyway"),
        (("encode", "--iterations", "2"), "--iterations is for --perf, which is not given"),
        (("eval", "--data", "nowhere.json", "--summary"), "--summary is for --json, which is not given"),
        (("ask", "--candidates", "3"), "--candidates is for --json, which is not given"),
    ],
    ids=["top", "words", "iterations", "summary", "candidates"],
)
def test_what_would_change_nothing_is_refused(cli: Cli, given: tuple[str, ...], said: str) -> None:
    refused = cli(*given, stdin=b"some text\n")
    assert (refused.code, refused.out) == (2, "") and f"{said}: leave it out" in refused.err
