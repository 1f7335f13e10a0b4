"""One engine's JSON, the tables and the plot, from hand-made times."""

import copy
import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import outliers, plot, report, table
from benchmarks.contenders import Contender, LeftOut
from benchmarks.inputs import Batches, random_batch
from benchmarks.peers.base import Engine
from tests.tiny import build

MODEL = build("bert")
BATCH = random_batch(MODEL, 4, 8)
MACHINE = {"int8": {"isa": "test", "tops": 2.0}}


def contender(name: str, *packages: str, batches: int = 1) -> Contender:
    engine = Engine(name, "int8", packages, lambda work: lambda batch: ())
    return Contender(engine, engine.prepare, Batches("of like length", (BATCH,) * batches, (), True), 40.0)


def result() -> dict:
    ours = report.entry(contender("ours"), [[2.0, 4.0], [6.0]], 10**9, MACHINE, a_pass=False)
    peer = report.entry(contender("peer | one", "torch"), [[8.0]], 10**9, MACHINE, a_pass=False)
    absent = LeftOut(Engine("gone", "int8", ("gone",), lambda work: lambda batch: ()), "", "not installed", False)
    header = {"model": "tiny", "batch_size": 4, "sequence_length": 8, "threads": 1, "peak": MACHINE}
    return {**header, **report.whole([ours], [peer], [report.left_out(absent, a_pass=False)])}


def test_an_entry_by_hand() -> None:
    entry = result()["ours"][0]
    assert entry["latency_ms"] == {"median": 4.0, "p95": 6.0, "p99": 6.0, "min": 2.0}
    assert entry["samples_per_second"] == 1000.0  # 4 rows in 4 ms
    assert entry["share_of_peak"] == 0.25  # 2·10⁹ operations in 4 ms are 0.5 of 2 TOPS
    assert (entry["calls"], entry["version"], entry["precision"], entry["sqnr_db"]) == (3, None, "int8", 40.0)


def test_a_pass_is_counted_whole() -> None:
    found = report.entry(contender("ours", batches=2), [[2.0, 6.0], [10.0, 2.0]], 10**9, MACHINE, a_pass=True)
    assert found["seconds_a_pass"] == pytest.approx(0.010)  # the median of 8 and 12 ms
    assert (found["samples_per_second"], found["share_of_peak"], found["batches"]) == (800.0, 0.1, "of like length")


def test_without_a_peak_there_is_no_share_and_the_reason_is_shown() -> None:
    entry = report.entry(contender("ours"), [[2.0]], 10**9, {"reason": "no kernels"}, a_pass=False)
    assert entry["share_of_peak"] is None
    shown = {**result(), **report.whole([entry], [], []), "peak": {"reason": "no kernels"}}
    assert "unknown" in table.markdown(shown) and "no kernels" in table.text(shown)


def test_the_higher_of_two_peaks_is_the_peak() -> None:
    low = {"int8": {"isa": "x", "tops": 1.0}}
    assert report.better(low, MACHINE) == report.better(MACHINE, low) == MACHINE
    assert report.better({"reason": "none"}, MACHINE) == {"reason": "none"}


def test_the_table_has_a_row_an_engine_fastest_first_and_names_who_is_missing() -> None:
    lines = table.markdown(result()).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 1 and rows[0].count(" | ") == len(table.COLUMNS) - 1
    assert rows[2].startswith("| **ours** | 4.00 | 6.00 | 6.00 | 2.00 | 1000.0 | 25% |")
    assert rows[3].startswith("| peer \\| one (") and "2.00×" in rows[3]
    assert "- Left out: gone: not installed" in lines
    text = table.text(result()).splitlines()
    assert text[0] == "tiny, batch 4, 8 tokens, 1 thread" and len({len(line) for line in text[2:5]}) == 1


def test_what_our_graph_missed_is_a_line_a_reason() -> None:
    missed = [{"what": "attention", "why": "its mask is odd", "names": ["one", "two"]}]
    assert (
        "- Missed: attention, 2 times: its mask is odd" in table.markdown({**result(), "missed": missed}).splitlines()
    )
    assert "Missed" not in table.text({**result(), "missed": []})


def test_the_plot_is_a_picture_with_a_panel_a_result(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    plot.draw([result()], one)
    other = copy.deepcopy(result())
    other["data"] = {"file": "dev.json", "windows": 8}
    plot.draw([result(), other], two)
    sizes = [struct.unpack(">II", file.read_bytes()[16:24]) for file in (one, two)]
    assert all(file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for file in (one, two))
    assert sizes[1][0] == sizes[0][0] and sizes[1][1] > 1.8 * sizes[0][1] > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_saved_results_are_drawn_and_other_files_refused_in_one_line(tmp_path: Path) -> None:
    saved, other, picture = tmp_path / "saved.json", tmp_path / "other.json", tmp_path / "drawn.png"
    saved.write_text(json.dumps(result()))
    other.write_text("[]")
    drawn = CliRunner().invoke(plot.main, [str(picture), str(saved), str(saved)])
    assert drawn.exit_code == 0 and picture.exists()
    for path, said in ((other, "is no result of bench"), (tmp_path / "gone.json", "no file at")):
        refused = CliRunner().invoke(plot.main, [str(picture), str(path)])
        assert refused.exit_code == 1 and said in refused.output and len(refused.output.splitlines()) == 1


def test_what_a_benchmark_can_not_use_is_one_line() -> None:
    refused = CliRunner().invoke(outliers.main, ["--target", "toaster"])
    assert refused.exit_code == 1 and "unknown target 'toaster'" in refused.output
    assert len(refused.output.splitlines()) == 1
