"""What one machine measured as a safetensors file, which is the reference on another."""

import json
from pathlib import Path
from types import NoneType
from typing import Any

from safetensors import SafetensorError, safe_open

from targets._json import parse_json
from targets.base import UsageError
from toolkit.in_place import replacing
from toolkit.recipe import PRECISIONS
from toolkit.tensor_file import save as save_tensors
from toolkit.validate.measure import Measured

FORMAT, VERSION = "opswap-validate", "1"
NUMBER = (int, float)
ABOUT: dict[str, Any] = {  # what a report says of every side, by kind
    "model": str, "task": str, "data": str, "rows": int, "tokens": int, "max_length": int,
    "target": {"executed": str, "native": bool, "isa": str, "reason": (str, NoneType)},
    "precision": str, "scheme": str, "swapped": int, "kept": list,
    "latency_ms": {"median": NUMBER}, "memory": {"weights_mb": NUMBER},
}  # fmt: skip


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
    if path.is_dir():
        raise UsageError(f"{path} is a folder: {advice}")
    try:
        path.open("rb").close()  # of one that may not be read safetensors says that it is missing
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            outputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except FileNotFoundError:
        raise UsageError(f"no file at {path}: {advice}") from None
    except PermissionError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}): {advice}") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not safetensors ({error}): {advice}") from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise UsageError(f"{path} holds no measured outputs of version {VERSION}: {advice}")
    try:
        about, answers = parse_json(metadata["about"]), parse_json(metadata["answers"])
        name = f"{metadata['name']} ({path.name})"
        measured = Measured(name, metadata["precision"], metadata["digest"], outputs, answers, about)
    except (KeyError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is damaged ({error}): {advice}") from error
    if wrong := _wrong(measured):
        raise UsageError(f"{path} is damaged ({wrong}): {advice}")
    return measured


def _wrong(measured: Measured) -> str | None:
    """→ what could not be compared or reported, None where all can"""
    if measured.precision not in PRECISIONS:
        return f"precision {measured.precision!r}, wanted one of {', '.join(PRECISIONS)}"
    odd = next((name for name, value in measured.outputs.items() if not value.is_floating_point()), None)
    if odd:
        return f"{odd} holds no floats"
    answers = dict.fromkeys(measured.answers, str) if isinstance(measured.answers, dict) else dict
    return _unlike(measured.answers, answers, "answers") or _unlike(measured.about, ABOUT, "about")


def _unlike(given: Any, wanted: Any, name: str) -> str | None:
    """wanted: a kind, or one for each key. → the first place where `given` is of no such kind, None without one"""
    if not isinstance(given, dict if isinstance(wanted, dict) else wanted):
        return f"{name} is {given!r:.40}"
    if not isinstance(wanted, dict):
        return None
    return next(filter(None, (_unlike(given.get(key), kind, f"{name}.{key}") for key, kind in wanted.items())), None)
