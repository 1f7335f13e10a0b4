"""`generate` with a cache of keys and values, and what it says where there can be none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import targets
from commands import cache
from commands.common import Options
from models import load
from models.tasks import GENERATE
from targets.base import Execution
from tests.cli import Cli
from tests.commands.folders import BERT, tiny_folder
from tests.models.samples import tokenizer
from toolkit import Recipe, checkpoint
from toolkit.pipeline import quantized

ASK = ("generate", "--text", "Mara Lindqvist repaired the lamp.", "--text", "Johan Berg", "--new-tokens", "6")


def llama(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(words), intermediate_size=52, initializer_range=0.3, **sizes, **ends)
        return LlamaForCausalLM(config).eval()


def test_a_model_that_keeps_nothing_goes_on_without_and_says_so(cli: Cli, tmp_path: Path) -> None:
    words = tokenizer()
    BertLMHeadModel(BertConfig(vocab_size=len(words), **BERT)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    result = cli("--json", "--model", str(tmp_path), *ASK)
    assert result.code == 0 and result.json["cache"] is False
    said = [line for line in result.err.splitlines() if "whole text again" in line]
    assert said == [
        "BertLMHeadModel returns no cache: no keys and values are kept, every step computes the whole text again"
    ]


@pytest.mark.parametrize("scheme", ["dynamic", "weight"])
def test_a_quantized_folder_that_others_made_has_a_cache_too(cli: Cli, tmp_path: Path, scheme: str) -> None:
    words, recipe = tokenizer("byte-level with spaces"), Recipe("int", scheme=scheme, smooth=False)
    model = llama(words)
    checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    words.save_pretrained(tmp_path / "saved")
    for own in ("opswap.json", "opswap.safetensors"):
        (tmp_path / "saved" / own).unlink()
    found = cli("--json", "--model", str(tmp_path / "saved"), "--target", "customcpu", *ASK).json
    assert found["cache"] is True and found["scheme"] == scheme and found["swapped"] == 15
    assert [one["tokens"] for one in found["texts"]] == [6, 6]


@pytest.mark.parametrize("scheme", ["dynamic", "weight"])
def test_a_quantized_folder_of_our_own_has_a_cache_and_the_same_tokens(cli: Cli, tmp_path: Path, scheme: str) -> None:
    folder, saved = str(tiny_folder(tmp_path / "gpt2", "generate")), str(tmp_path / "saved")
    how = ("--model", folder, "--scheme", scheme)
    made = cli("--json", *how, "quantize", "--task", "generate", "--output", saved)
    assert made.json["cache"] is True and made.json["kept"] == []
    for target in ("cpu", "customcpu"):
        direct = cli("--json", *how, "--precision", "int", "--target", target, *ASK).json
        loaded = cli("--json", "--model", saved, "--target", target, *ASK)
        assert loaded.json["cache"] is True and cache.WITHOUT not in loaded.err
        assert loaded.json["texts"] == direct["texts"] and loaded.json["swapped"] == direct["swapped"] == 9


def test_a_quantized_folder_of_an_earlier_version_goes_on_without_and_says_so(cli: Cli, tmp_path: Path) -> None:
    model, words = load(str(tiny_folder(tmp_path / "gpt2", "generate")), task=GENERATE)
    saved = str(tmp_path / "saved")
    checkpoint.save(quantized(model, Recipe("int")), model, Recipe("int"), tmp_path / "saved", words.save_pretrained)
    result = cli("--json", "--model", saved, *ASK)
    assert result.json["cache"] is False
    said = [line for line in result.err.splitlines() if cache.WITHOUT in line]
    assert said == [f"{saved} is saved as a graph that takes whole texts: {cache.WITHOUT}"]


def test_what_takes_whole_texts_takes_a_folder_with_a_cache(cli: Cli, tmp_path: Path) -> None:
    words, folder, saved = tokenizer("byte-level with spaces"), tmp_path / "llama", str(tmp_path / "saved")
    llama(words).save_pretrained(folder)
    words.save_pretrained(folder)
    assert cli("--model", str(folder), "quantize", "--task", "generate", "--output", saved).code == 0
    pair = ("--pair", "cpu:int", "--pair", "onnx:int", "--min-sqnr", "0", "--min-equal", "0", "--min-cosine", "-1")
    told = cli("--json", "--model", saved, "validate", "--task", "generate", *pair)
    assert told.code == 0 and [one["swapped"] for one in told.json["sides"][1:]] == [15, 15], told.err
    for name in ("model.onnx", "model.pt2"):
        file, kind = str(tmp_path / name), name.partition(".")[2]
        made = cli("--json", "--model", saved, "export", "--task", "generate", "--format", kind, "--output", file)
        assert made.code == 0 and made.json["quantized"] == 15, made.err
    cli("--model", saved, "classify", "--text", "a").fails_in_one_line(1, "is quantized for `generate`, not for `cla")


def test_static_activations_are_calibrated_as_without_a_cache(cli: Cli, tmp_path: Path) -> None:
    folder, passages = tiny_folder(tmp_path / "gpt2", "generate"), tmp_path / "passages.txt"
    passages.write_text("The lamp burned all night.\nNobody wrote to the captain in spring.\n", "utf-8")
    options = ("--precision", "int", "--scheme", "static", "--calibration", str(passages))
    found = cli("--json", "--model", str(folder), "--target", "customcpu", *options, *ASK).json
    assert found["cache"] is True and found["calibration"]["samples"] == 2 and found["swapped"] == 9


def test_what_runs_an_exported_file_has_no_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options("aie", "int", "dynamic", "m", False, None, False)
    assert cache.runs_cached(options) and not capsys.readouterr().err
    there = replace(targets.get("aie"), execution=lambda precision: Execution("aie", True, "an NPU", "npu"))
    monkeypatch.setattr(targets, "get", lambda name: there)
    assert not cache.runs_cached(options)
    assert capsys.readouterr().err == (
        "target aie runs an exported file here, which takes whole texts: no keys and values are kept, every step "
        "computes the whole text again\n"
    )
