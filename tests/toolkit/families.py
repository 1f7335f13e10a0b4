"""Question-answering models whose attention is not PyTorch's operator alone, tiny, with random weights."""

from functools import cache

import torch
from torch import nn
from transformers import (
    BigBirdConfig,
    BigBirdForQuestionAnswering,
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    LlamaConfig,
    LlamaForQuestionAnswering,
    LukeConfig,
    LukeForQuestionAnswering,
    MegatronBertConfig,
    MegatronBertForQuestionAnswering,
    ModernBertConfig,
    ModernBertForQuestionAnswering,
    MPNetConfig,
    MPNetForQuestionAnswering,
    RoFormerConfig,
    RoFormerForQuestionAnswering,
)

from tests import tiny

_ENCODER = {key: value for key, value in tiny._ENCODER.items() if key != "pad_token_id"}
_PADDED = {**_ENCODER, "pad_token_id": tiny.PAD}
_BIASED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16, "share_att_key": True}
_LOCAL = {
    "global_attn_every_n_layers": 2,
    "local_attention": 8,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "sep_token_id": 2,
}

MODELS = {
    # written out in small steps, and nothing else
    "megatron-bert": lambda: MegatronBertForQuestionAnswering(MegatronBertConfig(**_PADDED)),
    "luke": lambda: LukeForQuestionAnswering(LukeConfig(**_PADDED)),
    "bigbird": lambda: BigBirdForQuestionAnswering(
        BigBirdConfig(**_PADDED, attention_type="original_full", sep_token_id=2)
    ),
    # with numbers of their own added to the scores
    "mpnet": lambda: MPNetForQuestionAnswering(MPNetConfig(**_PADDED)),
    "deberta-v2": lambda: DebertaV2ForQuestionAnswering(DebertaV2Config(**_PADDED, **_BIASED)),
    # with queries and keys that are turned by their position
    "roformer": lambda: RoFormerForQuestionAnswering(RoFormerConfig(**_PADDED, embedding_size=16)),
    "llama": lambda: LlamaForQuestionAnswering(LlamaConfig(**_ENCODER, use_cache=False)),
    # that several heads share; written out in small steps
    "llama in steps": lambda: LlamaForQuestionAnswering(
        LlamaConfig(**_ENCODER, use_cache=False, num_key_value_heads=2, attn_implementation="eager")
    ),
    "modernbert": lambda: ModernBertForQuestionAnswering(ModernBertConfig(**_PADDED, **_LOCAL, cls_token_id=0)),
}


@cache
def build(name: str) -> nn.Module:
    """name: a key of MODELS"""
    torch.manual_seed(0)
    return MODELS[name]().eval()
