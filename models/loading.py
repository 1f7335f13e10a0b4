"""Names of models into (model, tokenizer), with one clear line for whatever is wrong with them."""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from models.checks import check_folder, check_task, check_tokenizer, check_weights
from models.errors import InputError
from models.padding import pad_as_model, pad_as_tokenizer
from models.places import folder_of
from models.tasks import ASK, CLASSIFY, ENCODE, Task, drop_missing_pooler

# What transformers raises about a config, tokenizer or weights that it can't use.
REFUSALS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, StrictDataclassError)

TYPES = "token_type_ids"
# To which a type is a token, of the same table: a second text laid over the first, of which no tokenizer knows.
TYPES_ARE_TOKENS = ("codegen", "ctrl", "flaubert", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "xlm")
GRAPH = "opswap.json"  # in a folder that toolkit.checkpoint wrote; those that only it reads hold no other sign

# What BERT, RoBERTa, ELECTRA, ALBERT, DistilBERT and GPT-2 call their dropout rates.
DROPOUT_KEYS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout_prob",
    "dropout",
    "attention_dropout",
    "qa_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)


def load(
    name: str = "minilm-squad",
    new_head: bool = False,
    dropout: float | None = None,
    attention: str | None = None,
    state: dict[str, torch.Tensor] | None = None,
    task: Task = ASK,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The float32 model for `task` in eval mode, and its tokenizer.

    `name` is an embedded model, a folder, or a Hugging Face name. `new_head` allows a checkpoint without
    a head (the head is then drawn at random, for fine-tuning). `dropout` replaces
    every rate in the config, `attention` names transformers' attention implementation. `state` holds the
    weights instead of the folder's files.
    Raises InputError; weights come from safetensors alone.
    """
    source = folder_of(name)
    check_folder(source)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if state is not None:
            del config.quantization_config  # they are multiplied out
        elif hasattr(config, "quantization_config") or (Path(source) / GRAPH).is_file():
            raise InputError(f"{name} is quantized, float weights are wanted here: give the model that it came from")
        if dropout is not None:
            config.update({key: dropout for key in DROPOUT_KEYS if hasattr(config, key)})
        tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        whole: Any = task.auto if state is None else task.class_of(config)
        model, notes = whole.from_pretrained(
            source if state is None else None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            attn_implementation=attention,
            **({"trust_remote_code": False} if state is None else {}),
        )
    except SafetensorError as error:
        raise InputError(
            f"the weights of {name} are damaged ({_one_line(error)}): copy the checkpoint again"
        ) from error
    except REFUSALS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name} can't be loaded as a {task.model} ({_one_line(error)}): give a whole checkpoint of one"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
    if task is ENCODE:
        drop_missing_pooler(model, notes)
    if not new_head:  # before the weights, which are other ones for another task, not broken
        check_task(name, config, task)
    check_weights(name, notes, model.base_model_prefix, new_head, task)
    embedded = next(model.get_input_embeddings().parameters()).shape[0]
    check_tokenizer(name, tokenizer, embedded)
    if task is CLASSIFY:
        pad_as_tokenizer(name, model, tokenizer)
    return model.eval(), _fitting(tokenizer, model.config)


def load_config(name: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """transformers' configuration of a model and its tokenizer, float or quantized; no weight is read. Raises
    InputError."""
    source = folder_of(name)
    check_folder(source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except REFUSALS as error:
        raise InputError(f"the config of {name} can't be read ({_one_line(error)}): copy it again") from error
    if not hasattr(config, "vocab_size"):
        raise InputError(f"the config of {name} has no vocab_size: give a model of texts")
    return config, load_tokenizer(name, config)


def load_tokenizer(name: str, config: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of a model with this configuration. Raises InputError."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder_of(name), trust_remote_code=False)
    except REFUSALS as error:
        raise InputError(f"the tokenizer of {name} can't be loaded ({_one_line(error)}): copy it again") from error
    check_tokenizer(name, tokenizer, config.vocab_size)
    return _fitting(tokenizer, config)


def _fitting(tokenizer: Any, config: Any) -> PreTrainedTokenizerFast:
    """→ the tokenizer, which pads as the model does; BERT's beside a GPT-2, as Chinese ones have it, makes no types any
    more"""
    pad_as_model(tokenizer, config)
    if getattr(config, "model_type", None) in TYPES_ARE_TOKENS:
        tokenizer.model_input_names = [one for one in tokenizer.model_input_names if one != TYPES]
    return tokenizer


def _one_line(error: Exception) -> str:
    """The first sentence of transformers' often long messages."""
    text = f"unknown name {error}" if isinstance(error, KeyError) else str(error)
    return re.split(r"\.\s", " ".join(text.split()))[0].rstrip(".")[:300]
