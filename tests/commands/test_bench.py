"""`bench` on a tiny model: every field, every file, and what can't be had is said."""

import json
from pathlib import Path

import pytest
import torch

from commands.graph import Ready, prepare
from targets._place import place
from tests.cli import Cli
from tests.models.samples import tiny_folder

SAMPLE = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
LATENCY = {"median", "p95", "p99", "min"}
FIELDS = {
    "target", "model", "precision", "scheme", "swapped", "kept", "batch_size", "sequence_length", "threads",
    "latency_ms", "samples_per_second", "share_of_peak", "multiply_adds", "peak", "ours", "peers", "left_out",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def bench(cli: Cli, tiny: str):
    options = ("--model", tiny, "--target", "customcpu", "--precision", "int", "--threads", "1")
    return lambda *more, json=True: cli(*(("--json",) if json else ()), *options, "bench", *more)


def test_json_has_every_field(bench) -> None:
    report = bench("--batch-size", "2", "--sequence-length", "16", "--iterations", "6").json
    assert set(report) >= FIELDS
    assert set(report["latency_ms"]) == LATENCY
    times = report["latency_ms"]
    assert 0 < times["min"] <= times["median"] <= times["p95"] <= times["p99"]
    assert (report["batch_size"], report["sequence_length"], report["threads"]) == (2, 16, 1)
    assert report["samples_per_second"] == pytest.approx(2000 / times["median"], rel=0.01)
    assert (report["peers"], report["left_out"], report["ours"][0]["calls"]) == ([], [], 6)
    assert report["swapped"] == 6 and report["ours"][0]["sqnr_db"] > 15
    per_token = 4 * 16**2 + 2 * 16 * 32 + 2 * 16
    assert report["multiply_adds"] == {"linears": 32 * per_token, "attention": 2 * 2 * 16**2 * 16}


def test_pytorchs_engines_are_peers_and_files_are_written(bench, tmp_path: Path) -> None:
    output = tmp_path / "results" / "tiny"
    pattern = ("--peer", "PyTorch fp32", "--peer", "pytorch dynamic*onednn*")
    report = bench("--sequence-length", "16", "--iterations", "2", *pattern, "--output", str(output)).json
    assert [peer["name"] for peer in report["peers"]] == ["PyTorch fp32", "PyTorch dynamic int8 (onednn)"]
    for peer in report["peers"]:
        assert set(peer["latency_ms"]) == LATENCY and peer["version"] and peer["calls"] == 2
    assert sorted(path.name for path in output.parent.iterdir()) == ["tiny.json", "tiny.md", "tiny.png"]
    assert json.loads(Path(f"{output}.json").read_text()) == report
    assert "| PyTorch fp32 (" in Path(f"{output}.md").read_text()


def test_an_engine_that_is_not_installed_is_named(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.base.version", lambda package: None if package == "ctranslate2" else "1")
    result = bench("--sequence-length", "16", "--iterations", "1", "--peer", "CTranslate2*")
    (absent,) = result.json["left_out"]
    assert absent == {
        "name": "CTranslate2 int8", "version": None, "installed": False,
        "reason": "not installed: pip install ctranslate2",
    }  # fmt: skip
    assert "left out: CTranslate2 int8: not installed" in result.err


def test_the_profile_lists_the_operators(bench, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    report = bench("--sequence-length", "16", "--iterations", "1", "--profile", "--trace", str(trace)).json
    nodes = sum(row["nodes"] for row in report["operators"])
    assert len(json.loads(trace.read_text())["traceEvents"]) == nodes > 10
    printed = bench("--sequence-length", "16", "--iterations", "1", "--profile", json=False)
    assert printed.code == 0
    for word in ("OpSwap customcpu int", "share of int8 peak", *(row["operator"] for row in report["operators"])):
        assert word in printed.out


def test_real_windows_padded_and_in_like_lengths(bench) -> None:
    more = ("--data", SAMPLE, "--limit", "8", "--batch-size", "2", "--iterations", "1", "--peer", "PyTorch fp32")
    report = bench(*more).json
    assert report["data"]["file"] == "sample-v1.1.json.gz" and report["data"]["windows"] % 2 == 0
    hows = ["padded to 384", "of like length"]
    assert [entry["batches"] for entry in report["ours"]] == [entry["batches"] for entry in report["peers"]] == hows
    for entry in report["ours"] + report["peers"]:
        assert entry["calls"] == report["data"]["windows"] // 2
        assert entry["samples_per_second"] == pytest.approx(
            report["data"]["windows"] / entry["seconds_a_pass"], rel=0.01
        )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--peer", "tensorflow"), 1, "no peer is called 'tensorflow'"),
        (("--data", "none.json"), 1, "no file"),
        (("--data", SAMPLE, "--limit", "1", "--batch-size", "100"), 1, "lower --batch-size"),
        (("--limit", "3"), 2, "--data"),
        (("--iterations", "0"), 2, "--iterations"),
        (("--shape", "bert-base"), 2, "--model is not what --shape measures"),
    ],
)
def test_what_cannot_be_measured_is_said(bench, arguments: tuple, code: int, said: str) -> None:
    result = bench(*arguments)
    assert result.code == code and said in result.err and "Traceback" not in result.err and result.out == ""


def test_more_memory_than_there_is_is_one_line(cli: Cli) -> None:
    result = cli("bench", "--batch-size", str(2**31 - 1))
    result.fails_in_one_line(1, "out of memory", "can't allocate", "lower --batch-size or the length of the rows")


def test_a_plot_that_cannot_be_drawn_is_said_at_once(bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    bench("--output", str(tmp_path / "x")).fails_in_one_line(1, "matplotlib", "pip install -e .[bench]")


def test_a_profile_that_can_not_be_made_is_said_before_anything_is_timed(bench, monkeypatch) -> None:
    monkeypatch.setattr("commands.bench.measured", lambda *given, **named: pytest.fail("it was timed"))
    monkeypatch.setattr("commands.bench.prepare", lambda *given: placed(prepare(*given)))

    def placed(ready: Ready) -> Ready:
        place(ready.graph, torch.device("meta"))
        return ready

    result = bench("--sequence-length", "16", "--profile")
    assert result.code == 1 and "time by operator is measured on the CPU" in result.err
