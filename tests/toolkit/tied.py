"""Language models whose head has the embedding's weight."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from tests import tiny
from tests.toolkit.test_cache import SMALL
from toolkit import Recipe

ENCODER = {**SMALL, "type_vocab_size": 1}


def gpt2() -> nn.Module:
    return tiny.build(tiny.TIED)


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True))


def bert() -> nn.Module:
    return BertForMaskedLM(BertConfig(**ENCODER))


def roberta() -> nn.Module:
    return RobertaForMaskedLM(RobertaConfig(**{**ENCODER, "max_position_embeddings": tiny.POSITIONS + 2}))


# how a model is made, the name of its head, and of the table that is the head's weight as well
MODELS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "gpt2": (gpt2, "lm_head", "transformer.wte"),
    "llama": (llama, "lm_head", "model.embed_tokens"),
    "bert": (bert, "cls.predictions.decoder", "bert.embeddings.word_embeddings"),
    "roberta": (roberta, "lm_head.decoder", "roberta.embeddings.word_embeddings"),
}
RECIPES = {"dynamic": Recipe("int"), "weight": Recipe("int", scheme="weight")}
GPT2_LINEARS = 9  # its head, and four in each of two layers


def build(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name][0]().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1 and name != "gpt2":  # biases that are not 0
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def logits(run: Callable[..., object], batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return run(**batch).logits[batch["attention_mask"].bool()]  # type: ignore[attr-defined]


def table_of(graph: nn.Module, name: str) -> torch.Tensor:
    return graph.get_parameter(f"{name}.weight")
