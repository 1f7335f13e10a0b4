"""Tiny models with classes from a text's last token, and folders of them that name a token to pad with or not."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from tests.models.samples import tokenizer

START, PAD, END, UNKNOWN = range(4)  # of the tokenizer


def gpt2(words: int, **ends: Any) -> PreTrainedModel:
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    return GPT2ForSequenceClassification(GPT2Config(vocab_size=words, num_labels=4, **sizes, **ends))


def llama(words: int, **ends: Any) -> PreTrainedModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = LlamaConfig(vocab_size=words, num_labels=4, initializer_range=0.3, **sizes, **ends)
    return LlamaForSequenceClassification(config)


def folder_of(
    made: Callable[..., PreTrainedModel], folder: Path, own: int | None, knows: dict[str, str | None]
) -> Path:
    """own: the config's token to pad with; knows: the tokenizer's special tokens by name"""
    words = copy.deepcopy(tokenizer("byte-level"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made(len(words), bos_token_id=START, eos_token_id=END, pad_token_id=own).save_pretrained(folder)
    words.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **knows}))
    return folder
