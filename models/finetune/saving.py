"""A fine-tuned model as a folder that `load` reads: half-precision safetensors, config and tokenizer."""

import copy
import os
import tempfile
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Writes float16 weights, config.json and a tokenizer that cuts and pads nothing; each is renamed into place."""
    output.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).half()
    with tempfile.TemporaryDirectory(dir=output, prefix=".saving-") as beside:
        half.save_pretrained(beside, safe_serialization=True)
        tokens = copy.deepcopy(tokenizer)
        tokens.backend_tokenizer.no_truncation()  # training's own, which is kept from the last call
        tokens.backend_tokenizer.no_padding()
        tokens.save_pretrained(beside)
        # The weights' file is the owner's alone; it gets the rights that any new file gets.
        mode = (Path(beside) / "config.json").stat().st_mode
        for path in sorted(Path(beside).iterdir()):
            path.chmod(mode)
            os.replace(path, output / path.name)
