"""What a model's folder, weights and tokenizer must have: each check raises InputError, in one line."""

import json
import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.tasks import ENCODE, Task, task_of
from targets._json import parse_json

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def check_folder(source: str) -> None:
    """What transformers would say in many lines, or not at all."""
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"{source} is a file: give the folder that holds config.json and model.safetensors")
    config = folder / "config.json"
    if not config.exists():
        raise InputError(f"{source} holds no config.json: give a folder that save_pretrained wrote")
    for path in _files(folder, "json"):
        try:
            parse_json(path.read_text("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not JSON ({error}): copy the checkpoint again") from error
    # transformers would make a tokenizer that knows five tokens, without a word.
    if not any((folder / file).exists() for file in TOKENIZER_FILES):
        raise InputError(f"{source} holds no tokenizer.json: copy the tokenizer's files into it")
    weights = _files(folder, "safetensors")
    if not weights:
        raise InputError(f"{source} holds no *.safetensors (pickled weights aren't loaded): save it as safetensors")
    for path in weights:
        path.open("rb").close()  # of one that may not be read safetensors says that it is missing


def _files(folder: Path, ending: str) -> list[Path]:
    """→ those of the model; what a killed process left of one is hidden"""
    return sorted(path for path in folder.glob(f"*.{ending}") if not path.name.startswith("."))


def check_weights(name: str, notes: dict[str, Any], body: str, new_head: bool, task: Task) -> None:
    """notes: transformers' of what it loaded; body: its name for all but the head; new_head: the head may be missing"""
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


def check_task(name: str, config: Any, task: Task) -> None:
    """The head of another task may have a name that `task` knows, or none, as a language model's whose table it is."""
    names = getattr(config, "architectures", None) or []
    others = {one: task_of(config, one) for one in names}
    if task is ENCODE or task in others.values():
        return
    for one, other in others.items():
        if other and other is not ENCODE:
            raise InputError(f"{name} is a {other.model} ({one}): give a model {task.trained}")


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerFast, embedded: int) -> None:
    """embedded: how many tokens the model has."""
    if not tokenizer.is_fast:
        raise InputError(f"{name} has no fast tokenizer (character offsets are needed): add its tokenizer.json")
    if len(tokenizer) > embedded:
        raise InputError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, the model only {embedded}: "
            "use the tokenizer.json saved with the weights"
        )
