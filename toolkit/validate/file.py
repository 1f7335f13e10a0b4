"""What one machine measured as a safetensors file, which is the reference on another."""

import json
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from targets.base import UsageError
from toolkit.in_place import replacing
from toolkit.tensor_file import save as save_tensors
from toolkit.validate.measure import Measured

FORMAT, VERSION = "opswap-validate", "1"


def save(measured: Measured, path: Path) -> None:
    """Writes beside and renames. Raises OSError where the folder can't be written."""
    plain = {"answers": measured.answers, "about": measured.about}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "name": measured.name,
        "precision": measured.precision,
        "digest": measured.digest,
        **{key: json.dumps(value, ensure_ascii=False) for key, value in plain.items()},
    }
    with replacing(path) as beside:
        save_tensors(measured.outputs, beside, metadata)


def read(path: Path) -> Measured:
    """→ what `save` wrote, its name with the file's. Raises UsageError for any other file."""
    advice = "give a file that validate --save wrote"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            outputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except FileNotFoundError:
        raise UsageError(f"no file at {path}: {advice}") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not safetensors ({error}): {advice}") from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise UsageError(f"{path} holds no measured outputs of version {VERSION}: {advice}")
    try:
        about, answers = json.loads(metadata["about"]), json.loads(metadata["answers"])
        measured = Measured("", metadata["precision"], metadata["digest"], outputs, answers, about)
        return replace(measured, name=f"{metadata['name']} ({path.name})")
    except (KeyError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is damaged ({error}): {advice}") from error
