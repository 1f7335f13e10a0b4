"""Folders that are damaged, or no checkpoint: one line each, and nothing of anybody else's is overwritten."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.toolkit.folders import edit
from toolkit import CheckpointError, checkpoint


def _call(target: str):
    def change(document: dict) -> None:
        next(node for node in document["nodes"] if node["op"] == "call_function")["target"] = target

    return change


def _without_a_weight(place: Path) -> None:
    tensors = load_file(place / "model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.weight"]
    save_file(tensors, place / "model.safetensors")


def _nested(document: dict) -> None:
    value: list = []
    for _ in range(450):  # fewer than JSON's reader takes
        value = [value]
    next(node for node in document["nodes"] if node["op"] == "call_function")["args"] = value


def _sized(document: dict, size: str) -> None:
    next(node for node in document["nodes"] if node["val"] and "sizes" in node["val"])["val"]["sizes"][0] = size


DEEP = "[" * 100_000
DAMAGES = {
    "code": (lambda place: edit(place, _call("os.system")), "'os.system', which this version does not have"),
    "no such operator": (lambda place: edit(place, _call("aten.nonsense.default")), "does not have"),
    "a namespace of its own": (lambda place: edit(place, _call("builtins.eval.default")), "does not have"),
    "another version": (lambda place: edit(place, lambda d: d.update(version=99)), "version 99"),
    "an unknown recipe": (lambda place: edit(place, lambda d: d.update(recipe="new: 1")), "'new'"),
    "nothing noted": (lambda place: edit(place, lambda d: d.pop("noted")), "damaged"),
    "no config": (lambda place: (place / "config.json").unlink(), "damaged"),
    "no nodes": (lambda place: edit(place, lambda d: d.pop("nodes")), "damaged"),
    "cut graph": (lambda place: (place / "opswap.json").write_bytes(b'{"version": 1'), "damaged"),
    "nested too deeply": (lambda place: (place / "opswap.json").write_text(DEEP), "damaged .*nested too deeply"),
    "arguments nested too deeply": (lambda place: edit(place, _nested), "damaged"),
    "a size nested too deeply": (lambda place: edit(place, lambda d: _sized(d, "-" * 100_000 + "1")), "a size of the"),
    "a size cut": (lambda place: edit(place, lambda d: _sized(d, "s0 *")), "a size of the"),
    "cut weights": (
        lambda place: (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:900]),
        "damaged",
    ),
    "no weights": (lambda place: (place / "model.safetensors").unlink(), "copy the folder again"),
    "a weight less": (_without_a_weight, "no whole weight for the layer bert.encoder.layer.0.output.dense"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_one_line(saved: Path, damage: str) -> None:
    break_it, said = DAMAGES[damage]
    break_it(saved)
    with pytest.raises(CheckpointError, match=said) as raised:
        checkpoint.load(saved)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("file", ["config.json", "opswap.json"])
def test_what_is_nested_too_deeply_is_no_checkpoint(saved: Path, file: str) -> None:
    (saved / file).write_text(DEEP)
    with pytest.raises(CheckpointError, match="of no checkpoint that this program wrote|nested too deeply"):
        checkpoint.require_free(saved) if file == "opswap.json" else checkpoint.read(saved)
    assert checkpoint.kind_of(saved) == "opswap"
    (saved / "opswap.json").unlink()
    assert checkpoint.kind_of(saved) == ("compressed-tensors" if file == "opswap.json" else None)


@pytest.mark.parametrize("there", ["a stranger's file", "a model", "one more file", "a file in its place"])
def test_only_a_checkpoint_is_overwritten(saved: Path, tmp_path: Path, there: str) -> None:
    place = {"one more file": saved}.get(there, tmp_path / "other")
    if there == "a file in its place":
        place.write_text("text")
    else:
        place.mkdir(exist_ok=True)
        (place / ("config.json" if there == "a model" else "notes.txt")).write_text("{}")
    with pytest.raises(CheckpointError, match="give"):
        checkpoint.require_free(place)


@pytest.mark.parametrize("name", [".", ""])
def test_the_folder_that_it_runs_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The shell would stand in one that is gone."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="is the folder that this runs in.*: give a folder inside it"):
        checkpoint.require_free(Path(name))
    checkpoint.require_free(Path("below"))


def test_a_mounted_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's volume, which can't be renamed: it was said when all had been quantized."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(CheckpointError, match="is where a disk is mounted.*: give a folder inside it"):
        checkpoint.require_free(tmp_path)
    checkpoint.require_free(tmp_path / "below")


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    checkpoint.require_free(tmp_path)
