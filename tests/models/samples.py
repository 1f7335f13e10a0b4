"""What the tests of models/ share: real questions, tokenizers of three kinds, tiny models and their folders."""

import shutil
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    PreTrainedTokenizerFast,
)

from models.places import resolve
from models.question_answering.examples import Example, read_examples

ROOT = Path(__file__).parents[2]
SQUAD = Path(__file__).parents[1] / "data" / "squad"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
KINDS = ("wordpiece", "byte-level", "byte-level with spaces", "sentencepiece")


@cache
def sample(version: str = "1.1") -> tuple[Example, ...]:
    """About 120 questions of SQuAD's development set."""
    return tuple(read_examples(SQUAD / f"sample-v{version}.json.gz"))


@cache
def tokenizer(kind: str = "wordpiece") -> PreTrainedTokenizerFast:
    """BERT's own, or one trained on the sample that splits as RoBERTa's, GPT-2's or XLM-R's does."""
    if kind == "wordpiece":
        return AutoTokenizer.from_pretrained(resolve("minilm-squad"))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "sentencepiece":
        core = Tokenizer(tokenizer_models.Unigram())
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=1200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        core = Tokenizer(tokenizer_models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=1200, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    core.train_from_iterator(sorted({example.context for example in sample()}), trainer)
    if kind == "byte-level":
        core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    else:
        pair = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}
        core.post_processor = processors.TemplateProcessing(**pair, special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", cls_token="<s>", sep_token="</s>")


def tiny_bert(dropout: float = 0.1, seed: int = 0, positions: int = 512) -> BertForQuestionAnswering:
    """Random weights, one narrow layer, WordPiece's vocabulary; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer()),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="eager",
        )
        return BertForQuestionAnswering(config).eval()


def tiny_folder(folder: Path, positions: int = 512) -> Path:
    """A whole checkpoint of `tiny_bert` in `folder`."""
    tiny_bert(positions=positions).save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copy(Path(resolve("minilm-squad")) / file, folder)
    return folder
