"""Folders of tiny models with random weights, one for each task, with a tokenizer that reads English."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from tests.models.samples import tokenizer

LABELS = {"classify": ("bad", "so-so", "good"), "tag": ("O", "B-PER", "I-PER", "B-LOC")}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 52,
        "initializer_range": 0.2}  # fmt: skip
CLASSES = {
    "ask": BertForQuestionAnswering,
    "encode": BertModel,
    "classify": BertForSequenceClassification,
    "tag": BertForTokenClassification,
}


def tiny_folder(folder: Path, task: str, kind: str | None = None, **settings: object) -> Path:
    """→ `folder`, with what save_pretrained writes of a model and a tokenizer for `task`, of this kind or the usual"""
    words = tokenizer(kind or ("byte-level with spaces" if task == "generate" else "wordpiece"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if task == "generate":
            sizes = {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
            ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
            config = GPT2Config(vocab_size=len(words), **{**sizes, **ends, **settings})  # type: ignore[arg-type]
            model = GPT2LMHeadModel(config)
        else:
            labels = {"id2label": dict(enumerate(LABELS[task]))} if task in LABELS else {}
            model = CLASSES[task](BertConfig(vocab_size=len(words), **{**BERT, **labels, **settings}))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
