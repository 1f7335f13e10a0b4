"""`bench` and `plan` on a tiny model of each task that reads a text at once."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.commands.folders import LABELS, tiny_folder

TASKS = ("ask", "encode", "classify", "tag")
INT = ("--target", "customcpu", "--precision", "int", "--threads", "1")
HEADS = {"ask": 2, "classify": len(LABELS["classify"]), "tag": len(LABELS["tag"])}
PEERS = ("PyTorch fp32", "PyTorch dynamic int8 (onednn)", "ONNX Runtime, our dynamic file")


@pytest.mark.parametrize("task", TASKS)
def test_the_model_of_a_task_is_measured_beside_its_peers(cli: Cli, tmp_path: Path, task: str) -> None:
    folder = str(tiny_folder(tmp_path, task))
    peers = [part for name in PEERS for part in ("--peer", name)]
    more = ("--task", task, "--batch-size", "3", "--sequence-length", "16", "--iterations", "2", *peers)
    report = cli("--json", "--model", folder, *INT, "bench", *more).json
    assert report["task"] == task and report["left_out"] == [] and report["swapped"] >= 12
    assert [peer["name"] for peer in report["peers"]] == list(PEERS)
    assert report["sqnr_db"] > 15 and report["peers"][0]["sqnr_db"] == 150
    assert all(peer["sqnr_db"] > 15 for peer in report["peers"])
    layers = 2 * 48 * (4 * 32**2 + 2 * 32 * 52)
    pooled = 3 * 32**2 if task in ("encode", "classify") else 0
    head = HEADS.get(task, 0) * 32 * (3 if task == "classify" else 48)
    assert report["multiply_adds"]["linears"] == layers + pooled + head


@pytest.mark.parametrize("task", ["encode", "classify", "tag"])
def test_texts_are_measured_in_their_own_mix_of_lengths(cli: Cli, tmp_path: Path, task: str) -> None:
    folder, texts = tiny_folder(tmp_path / "model", task), tmp_path / "texts.txt"
    texts.write_text("the boat\nthe keeper lit the lamp\nit rained all night\nno\nthe sea was calm\n")
    more = ("--task", task, "--data", str(texts), "--batch-size", "2", "--iterations", "1", "--peer", "PyTorch fp32")
    report = cli("--json", "--model", str(folder), *INT, "bench", "--sequence-length", "24", *more).json
    assert report["data"] == {"file": "texts.txt", "windows": 4}
    hows = ["padded to 24", "of like length"]
    assert [entry["batches"] for entry in report["ours"]] == [entry["batches"] for entry in report["peers"]] == hows
    assert all(entry["sqnr_db"] > 15 for entry in report["ours"])


@pytest.mark.parametrize("command", ["bench", "plan"])
def test_a_model_of_another_task_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    folder = str(tiny_folder(tmp_path, "tag"))
    target = "aie" if command == "plan" else "customcpu"
    result = cli("--model", folder, "--target", target, "--precision", "int", command, "--task", "classify")
    result.fails_in_one_line(1, "BertForTokenClassification", "fine-tuned to classify")


@pytest.mark.parametrize(("task", "linears"), [("encode", 5), ("classify", 4), ("tag", 4), ("generate", 5)])
def test_plan_lists_the_linears_of_the_tasks_model(cli: Cli, tmp_path: Path, task: str, linears: int) -> None:
    folder = str(tiny_folder(tmp_path, task))
    aie = ("--target", "aie", "--precision", "int")
    report = cli("--json", "--model", folder, *aie, "plan", "--task", task, "--sequence-length", "16").json
    assert report["task"] == task
    names = {one["name"] for one in report["devices"][0]["linears"]}
    assert len(names) >= linears, names
