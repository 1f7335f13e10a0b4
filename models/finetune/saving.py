"""A fine-tuned model as a folder that `load` reads: half-precision safetensors, config and tokenizer."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.errors import InputError
from operators.own_folder import making

SAVED = torch.float16  # half()
NOTE = "quantization_aware_training"  # the key of config.json that says what a model was trained for


@torch.no_grad()
def round_as_saved(model: nn.Module) -> None:
    """parameter ← what `save_model` writes of it"""
    for parameter in model.parameters():
        parameter.copy_(parameter.to(SAVED))


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output: Path, qat: dict[str, Any] | None = None
) -> None:
    """Writes float16 weights, config.json and a tokenizer that cuts and pads nothing; each is renamed into place.

    `qat` says, in the config under NOTE, which rounding the model was trained through. Raises InputError where the
    weights can't be written, and for ones that float16 does not hold.
    """
    half = copy.deepcopy(model).half()
    wide = next((name for name, value in half.named_parameters() if not value.isfinite().all()), None)
    if wide:
        raise InputError(f"{output} is not written: {wide} has numbers that float16 does not hold: "
                         "lower --learning-rate, with --no-resume")  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    if qat:
        half.config.update({NOTE: qat})
    elif hasattr(half.config, NOTE):  # the base's
        delattr(half.config, NOTE)
    with making(output / "model") as beside:
        try:
            half.save_pretrained(beside, safe_serialization=True)
        except SafetensorError as error:  # of a full disk too
            raise InputError(f"{output} can't be written ({error}): make room, then start the same again") from error
        tokens = copy.deepcopy(tokenizer)
        tokens.backend_tokenizer.no_truncation()  # training's own, which is kept from the last call
        tokens.backend_tokenizer.no_padding()
        tokens.save_pretrained(beside)
        # The weights' file is the owner's alone; it gets the rights that any new file gets.
        mode = (beside / "config.json").stat().st_mode
        for path in sorted(beside.iterdir()):
            path.chmod(mode)
            os.replace(path, output / path.name)
