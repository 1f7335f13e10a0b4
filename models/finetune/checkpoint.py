"""Training state in one safetensors file, written beside and renamed into place."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import InputError

FILE = "training-state.safetensors"


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, run: dict[str, object]
) -> None:
    """Weights and AdamW moments after `step` steps; `run` says which run they belong to."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.named_parameters()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"{key}.{names[id(parameter)]}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{FILE}.{os.getpid()}"
    copies = {name: value.detach().contiguous() for name, value in tensors.items()}
    save_file(copies, beside, metadata={"step": str(step), "run": json.dumps(run, sort_keys=True)})
    os.replace(beside, folder / FILE)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: dict[str, object]) -> int:
    """Puts a saved state back in place and returns its step; 0 where there is none.

    Raises InputError when the state is damaged or belongs to a run with other settings.
    """
    path = folder / FILE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata()
            saved = json.loads(notes["run"])
            _check_same_run(path, saved, run)
            for name, parameter in model.named_parameters():
                parameter.data.copy_(file.get_tensor(f"model.{name}"))
                optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")
                }
            return int(notes["step"])
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to start again") from error


def _check_same_run(path: Path, saved: dict[str, object], run: dict[str, object]) -> None:
    other = sorted(key for key in saved.keys() | run.keys() if saved.get(key) != run.get(key))
    if other:
        key = other[0]
        raise InputError(
            f"{path} is of a run with {key}={saved.get(key)}, this one has {run.get(key)}: "
            "use the same settings, another --output, or --no-resume"
        )
