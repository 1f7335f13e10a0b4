"""What fills a batch: heads that read a text's last token (GPT-2's, Llama's) find it by what does not pad."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from models import InputError, load
from models.tasks import CLASSIFY
from models.texts import text_windows, through
from tests.models.samples import tokenizer

TEXTS = ("Mara Lindqvist repaired the lamp of Hallö!", "The captain learned of it only in spring and wrote!", "Yes!")
START, PAD, END, UNKNOWN = range(4)  # of the tokenizer


def gpt2(words: int, **ends: Any) -> PreTrainedModel:
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    return GPT2ForSequenceClassification(GPT2Config(vocab_size=words, num_labels=4, **sizes, **ends))


def llama(words: int, **ends: Any) -> PreTrainedModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = LlamaConfig(vocab_size=words, num_labels=4, initializer_range=0.3, **sizes, **ends)
    return LlamaForSequenceClassification(config)


def folder_of(made: Any, folder: Path, own: int | None, knows: dict[str, str | None]) -> Path:
    """own: the config's token to pad with; knows: the tokenizer's special tokens by name"""
    words = copy.deepcopy(tokenizer("byte-level"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made(len(words), bos_token_id=START, eos_token_id=END, pad_token_id=own).save_pretrained(folder)
    words.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **knows}))
    return folder


@pytest.mark.parametrize("made", [gpt2, llama])
@pytest.mark.parametrize(
    "own, knows, pads",
    [
        (PAD, {"pad_token": None}, PAD),
        (UNKNOWN, {"pad_token": "<pad>"}, UNKNOWN),
        (None, {"pad_token": "<pad>"}, PAD),
        (None, {"pad_token": None, "unk_token": "<unk>"}, UNKNOWN),
        (None, {"pad_token": None, "eos_token": "<s>"}, START),
        (None, {"pad_token": None, "eos_token": "</s>", "unk_token": "<unk>"}, UNKNOWN),
    ],
    ids=["config alone", "config differs", "tokenizer alone", "unknown", "end", "end that every text has"],
)
def test_each_text_of_a_batch_has_its_own_classes(
    tmp_path: Path, made: Any, own: int | None, knows: dict[str, str | None], pads: int
) -> None:
    folder = folder_of(made, tmp_path, own, knows)
    model, words = load(str(folder), task=CLASSIFY)
    assert (words.pad_token_id, model.config.pad_token_id) == (pads, pads)
    windows, _ = text_windows(words, TEXTS, 64)
    for places, _, output in through(model, words.pad_token_id, windows, len(TEXTS)):
        for row, place in enumerate(places):
            with torch.no_grad():
                states = model.base_model(torch.tensor([windows[place].input_ids])).last_hidden_state
                torch.testing.assert_close(output.logits[row], model.score(states[0, -1]))


def test_a_classifier_that_nothing_can_pad_is_one_line(tmp_path: Path) -> None:
    folder = folder_of(llama, tmp_path, None, {"pad_token": None, "unk_token": None, "eos_token": "</s>"})
    with pytest.raises(InputError, match="has no token to pad with.*: name a pad_token in its tokenizer_config.json"):
        load(str(folder), task=CLASSIFY)
