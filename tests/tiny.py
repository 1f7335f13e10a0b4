"""Tiny question-answering models with random weights, one for each architecture; nothing is downloaded."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    BertConfig,
    BertForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    ElectraConfig,
    ElectraForQuestionAnswering,
    GPT2Config,
    GPT2ForQuestionAnswering,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

VOCABULARY = 100
PAD = 1
POSITIONS = 64

_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 52,  # no multiple of 8, 16 or 64
    "max_position_embeddings": POSITIONS,
    "pad_token_id": PAD,
    "initializer_range": 0.1,
}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_positions": POSITIONS,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 52,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": PAD,
    "use_cache": False,
}


def _bert() -> nn.Module:
    return BertForQuestionAnswering(BertConfig(**_ENCODER))


def _distilbert() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 52}
    other = {"max_position_embeddings": POSITIONS, "pad_token_id": PAD, "initializer_range": 0.1}
    return DistilBertForQuestionAnswering(DistilBertConfig(**sizes, **other))


def _roberta() -> nn.Module:
    # positions start after the padding index: POSITIONS usable ones need PAD + 1 more
    sizes = {**_ENCODER, "max_position_embeddings": POSITIONS + PAD + 1, "type_vocab_size": 1}
    return RobertaForQuestionAnswering(RobertaConfig(**sizes))


def _electra() -> nn.Module:
    return ElectraForQuestionAnswering(ElectraConfig(**_ENCODER, embedding_size=16))


def _albert() -> nn.Module:
    return AlbertForQuestionAnswering(AlbertConfig(**_ENCODER, embedding_size=16))


def _gpt2() -> nn.Module:
    return GPT2ForQuestionAnswering(GPT2Config(**_GPT2))


def _gpt2_tied() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(**_GPT2))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "electra": _electra,
    "albert": _albert,
    "gpt2": _gpt2,
}
TIED = "gpt2-tied"  # a language model whose head shares its weight with the embedding


def build(name: str, seed: int = 0) -> nn.Module:
    """name: a key of BUILDERS, or TIED → the model in evaluation mode, the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _gpt2_tied() if name == TIED else BUILDERS[name]()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # biases and norms: not all zeros and ones
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def inputs(model: nn.Module, batch: int, sequence: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """→ input_ids, attention_mask (and token_type_ids where there are types), int64 [batch, sequence].

    Row i is padded on the right by i + 1 tokens, where the sequence is long enough for that.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (batch, sequence), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch):
        padding = min(row + 1, sequence - 1)
        mask[row, sequence - padding :] = 0
    ids = torch.where(mask.bool(), ids, torch.full_like(ids, PAD))
    given = {"input_ids": ids, "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 1) > 1:
        given["token_type_ids"] = (torch.arange(sequence) > sequence // 2).long().expand(batch, -1) * mask
    return given
