"""A fine-tuned model as a folder that `load` reads: half-precision safetensors, config and tokenizer."""

import copy
import os
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Writes float16 weights, config.json and the tokenizer's files; each is renamed into place when whole."""
    output.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).to(torch.float16)
    with tempfile.TemporaryDirectory(dir=output, prefix=".saving-") as beside:
        half.save_pretrained(beside, safe_serialization=True)
        tokenizer.save_pretrained(beside)
        for path in sorted(Path(beside).iterdir()):
            os.replace(path, output / path.name)
