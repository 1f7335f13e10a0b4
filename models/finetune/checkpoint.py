"""Training state in one safetensors file, written beside and renamed into place."""

import json
import os
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import InputError
from models.finetune.averaging import WeightMean
from targets._json import parse_json

FILE = "training-state.safetensors"
MODEL = ("config.json", "*.safetensors")  # what a folder of a model holds
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter


def weights_checksum(model: nn.Module) -> int:
    """A number that parameters of other names, shapes or values would hardly have."""
    total = 0
    for name, parameter in model.named_parameters():
        total = zlib.crc32(f"{name} {tuple(parameter.shape)}".encode(), total)
        total = zlib.crc32(parameter.detach().flatten().view(torch.uint8).numpy().tobytes(), total)
    return total


def check_folder(folder: Path) -> None:
    """Raises InputError where no folder can be made, or there is a model that would be written over and that no run
    left, as the base; before a run has spent its time."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"no folder can be made at {folder}, {there} is a file: give another --output")
    try:
        with TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise InputError(f"{there} can't be written to ({error.strerror}): give another --output") from error
    held = sorted(path.name for ending in MODEL for path in folder.glob(ending) if path.name[0] != ".")
    if held and not (folder / FILE).exists():
        raise InputError(f"{folder} holds {held[0]}, which no fine-tuning left: give another --output")


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    mean: WeightMean,
    step: int,
    run: dict[str, object],
) -> None:
    """Weights, AdamW moments and the mean so far after `step` steps; `run` says which run they belong to. Raises
    InputError where they can't be written."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.named_parameters()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"{key}.{names[id(parameter)]}"] = value
    tensors |= {f"mean.{name}": value for name, value in mean.mean.items()}
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{FILE}"  # one name: what a kill leaves of it goes with the next state
    beside.unlink(missing_ok=True)
    beside.touch()
    mode = beside.stat().st_mode
    copies = {name: value.detach().contiguous() for name, value in tensors.items()}
    notes = {"step": str(step), "averaged": str(mean.count), "run": json.dumps(run, sort_keys=True)}
    try:
        save_file(copies, beside, metadata=notes)
    except SafetensorError as error:  # of a full disk too
        beside.unlink(missing_ok=True)
        raise InputError(f"{folder / FILE} can't be written ({error}): make room, then start the same again") from error
    beside.chmod(mode)  # save_file's files are the owner's alone
    os.replace(beside, folder / FILE)


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, mean: WeightMean, run: dict[str, object]
) -> int:
    """Puts a saved state back in place and returns its step; 0 where there is none.

    Raises InputError when the state is damaged or belongs to another model or a run with other settings; the
    model is then as it was.
    """
    path = folder / FILE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            step, averaged, saved = int(notes["step"]), int(notes["averaged"]), parse_json(notes["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        held = any(name.startswith("mean.") for name in tensors)
        if step < 1 or averaged < 0 or held != (averaged > 0):
            raise ValueError(f"step {step}, a mean of {averaged} states, {'with' if held else 'without'} their tensors")
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}): delete it to start again") from error
    _check_same_run(path, saved, run)
    parts = ("model", *MOMENTS, "mean") if averaged else ("model", *MOMENTS)
    _check_shapes(path, tensors, model, parts)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state[parameter] = {key: tensors[f"{key}.{name}"] for key in MOMENTS}
    mean.count = averaged
    mean.mean = {name: tensors[f"mean.{name}"] for name, _ in model.named_parameters()} if averaged else {}
    return step


def _check_shapes(path: Path, tensors: dict[str, Tensor], model: nn.Module, parts: tuple[str, ...]) -> None:
    for name, parameter in model.named_parameters():
        for key in parts:
            shape = tuple(tensors[f"{key}.{name}"].shape) if f"{key}.{name}" in tensors else None
            wanted = () if key == "step" else tuple(parameter.shape)
            if shape != wanted:
                raise InputError(
                    f"{path} is of another model: {key}.{name} is {'missing' if shape is None else shape}, "
                    f"wanted {wanted}: use the same --base, another --output, or --no-resume"
                )


def _check_same_run(path: Path, saved: dict[str, object], run: dict[str, object]) -> None:
    other = sorted(key for key in saved.keys() | run.keys() if saved.get(key) != run.get(key))
    if other:
        key = other[0]
        raise InputError(
            f"{path} is of a run with {key}={saved.get(key)}, this one has {run.get(key)}: "
            "use the same settings, another --output, or --no-resume"
        )
